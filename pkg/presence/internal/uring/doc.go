// Package uring sends to many sockets with one system call, by io_uring(7) of Linux. On other
// systems it is empty.
//
// A [Ring] is a send(2) for a list of sockets. Each result is that of a non-blocking write(2) to
// the socket. A call does not wait: the kernel handles each send during the system call, as
// MSG_DONTWAIT demands, and the ring asks for no minimum of completions. Therefore, no send is in
// progress between two calls, so the caller may close a descriptor or change a buffer then.
//
// The kernel may refuse a ring or fail later, so each caller also needs write(2):
//
//	event                                                result
//	io_uring_setup(2) fails, as under seccomp, with      Open returns an error
//	  kernel.io_uring_disabled=2 or before Linux 5.18
//	a send of Open's test has another result than write  Open returns an error
//	io_uring_enter(2) takes no more sends: EAGAIN,       the rest of the list is NotSent
//	  EBUSY, ENOMEM, EINTR
//	a send fails because of its socket                   the send is Failed, with the error of write(2)
//	a send fails for another reason                      the send is NotSent
//	any other error, or a send without a completion      Send returns an error: the ring has failed
//
// ring_linux.go shares memory with the kernel, and is the only file that uses package unsafe.
// send_linux.go has the rest.
//
// The Go libraries for io_uring were considered: the newest release of each is a draft or years
// old, and each covers all operations, where this package needs one.
package uring
