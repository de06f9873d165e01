package stream

import (
	"bufio"
	"strconv"
)

// An HTTP/1.1 body of unknown length is sent in chunks (RFC 9112 section 7.1):
//
//	<size of the content, in hexadecimal digits>\r\n    the head
//	<content>
//	\r\n
const (
	chunkEnd  = "\r\n"
	lastChunk = "0\r\n\r\n" // ends the body

	// maxChunkHead is the size of the longest head: eight digits and a line break.
	maxChunkHead = 10
	// maxChunkFrame is the maximum number of bytes that a chunk adds to its content.
	maxChunkFrame = maxChunkHead + len(chunkEnd)
)

func appendChunkHead(b []byte, size int) []byte {
	return append(strconv.AppendInt(b, int64(size), 16), "\r\n"...)
}

// appendChunk appends one chunk with a copy of the pieces as its content.
func appendChunk(b []byte, size int, pieces ...[]byte) []byte {
	b = appendChunkHead(b, size)
	for _, p := range pieces {
		b = append(b, p...)
	}
	return append(b, chunkEnd...)
}

// appendChunkPieces appends one chunk with the pieces as its content, without copying them.
func appendChunkPieces(to [][]byte, size int, pieces ...[]byte) [][]byte {
	return append(append(append(to, appendChunkHead(nil, size)), pieces...), []byte(chunkEnd))
}

// writeChunk writes one chunk. If the write fails, w returns the error from Flush, too.
func writeChunk(w *bufio.Writer, content []byte) error {
	w.Write(appendChunkHead(w.AvailableBuffer(), len(content)))
	w.Write(content)
	_, err := w.WriteString(chunkEnd)
	return err
}

// newChunkBuffer returns a chunk buffer with space for content of the given size. The caller
// appends the content and passes the buffer to [finishChunk].
func newChunkBuffer(size int) []byte {
	return make([]byte, maxChunkHead, maxChunkFrame+size)
}

// finishChunk turns a chunk buffer into a complete chunk, in place. head is the index in chunk at
// which the content begins.
func finishChunk(buffer []byte) (chunk []byte, head int) {
	var digits [maxChunkHead]byte
	line := appendChunkHead(digits[:0], len(buffer)-maxChunkHead)
	copy(buffer[maxChunkHead-len(line):], line)
	return append(buffer, chunkEnd...)[maxChunkHead-len(line):], len(line)
}
