package client

import "unicode/utf8"

// appendUTF8 appends src to dst, decoded like the standard's "UTF-8 decoder" (WHATWG Encoding,
// section 8.1.1). If a valid sequence is started but not completed, the bytes that started it
// become one U+FFFD. Any other byte that cannot be part of a sequence also becomes U+FFFD:
//
//	E2 80   one U+FFFD
//	C0 AF   two
//
// The replacements of the standard library differ: a range over a string replaces each byte, and
// bytes.ToValidUTF8 replaces a run of invalid bytes as one.
func appendUTF8(dst, src []byte) []byte {
	if utf8.Valid(src) {
		return append(dst, src...)
	}
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r == utf8.RuneError && n == 1 {
			n = invalid(src)
		}
		dst = utf8.AppendRune(dst, r)
		src = src[n:]
	}
	return dst
}

// invalid returns the number of bytes at the start of src that one U+FFFD replaces. src must not
// start with a valid sequence (Unicode, section 3.9, table 3-7: well-formed UTF-8 byte sequences).
func invalid(src []byte) int {
	length, low, high := 1, byte(0x80), byte(0xbf) // length of the sequence, and bounds of its second byte
	switch lead := src[0]; {
	case lead >= 0xc2 && lead <= 0xdf:
		length = 2
	case lead >= 0xe0 && lead <= 0xef:
		length = 3
		switch lead {
		case 0xe0:
			low = 0xa0 // lower values are overlong forms
		case 0xed:
			high = 0x9f // higher values are surrogates
		}
	case lead >= 0xf0 && lead <= 0xf4:
		length = 4
		switch lead {
		case 0xf0:
			low = 0x90 // lower values are overlong forms
		case 0xf4:
			high = 0x8f // higher values exceed U+10FFFF
		}
	}
	n := 1
	for n < min(length, len(src)) && src[n] >= low && src[n] <= high {
		n++
		low, high = 0x80, 0xbf
	}
	return n
}
