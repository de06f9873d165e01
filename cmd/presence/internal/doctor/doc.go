// Package doctor examines a deployed presence server from outside, through the address that its
// clients use. It finds the faults of the proxies on the way. It knows the wire format and auth,
// which signs its tokens, and nothing of the server's internals.
//
// [Run] returns a [Verdict] for each check:
//
//	ok     The check has passed.
//	note   The check did not run, or its result costs clients something, but breaks nothing.
//	fault  Clients lose events, sign-ins or correct counts. The verdict has the lines that fix it.
//
// # Rules
//
// A check reports a fault exactly in these cases. h is the heartbeat, which the event sync carries.
//
//	service      No answer of presence to GET healthz and GET session: no connection, an invalid
//	             certificate, a redirect, another service, or a wrong mount path.
//	problem      GET events without a token is not answered with 401.
//	redirect     POST messages is answered with a redirect, after which clients drop the body.
//	host         A page of the server's own origin is refused, because Host has changed.
//	cors         A page of the given origin cannot read the stream or the answer to a POST, or its
//	             preflight of a POST with Authorization and Content-Type fails.
//	token        The token is refused, does not arrive, or has expired.
//	stream       GET events is not answered with 200 and text/event-stream.
//	buffering    The first sync takes over 3 s, or two of three messages over 1 s after their 202.
//	compression  With the Accept-Encoding of a browser, the stream is compressed or has no sync.
//	clock        The Date header or a message's time differs by over 30 s from this machine's clock.
//	cookie       The session cookie lacks Secure behind TLS, or HttpOnly; its name, Path or Domain
//	             makes browsers drop it; or the server does not receive it.
//	resume       A message that the client has missed is not replayed within 2 s after the header
//	             Last-Event-ID.
//	idle         A quiet stream ends without goodbye, or has no ping for h + 5 s.
//	duration     A stream with two events per second ends without goodbye, or three of its
//	             messages in a row are over 1 s late, or one is over 6 s late.
//	leave        The server still counts a closed stream after 2h + 3 s.
//	cache        An answer has come from a cache (Age, X-Cache).
//
// If both streams end at the same age, only duration is a fault. In a shared room, where duration
// does not run, idle reports that, by the silences before the two ends. If these are the same by
// chance, it names both causes. These cases are notes:
//
//	protocol     HTTP/1.1, with which a browser opens at most six streams for all its tabs.
//	problem      The status is 401, but a proxy has replaced the problem document.
//	cors         Pages of the origin may use a token, but not the cookie.
//	clock        The difference is 2 s to 30 s.
//	cookie       The page is of another site, or of plain HTTP, and must use a token.
//	token        The token expires before the end of the observation.
//	leave        The count fell only after 3 s: the proxy notices at its next write.
//	resume       The server keeps no history.
//	idle         No ping is due within the time of observation.
//
// A delay counts as late only if short requests that began after its limit were answered too.
// Otherwise a slow machine would look like a proxy that buffers.
//
// # Effect on the server
//
// A run opens at most 12 streams, in rooms of its own if the token allows it: doctor-RANDOM and
// names that begin with it. There it sends two messages per second. In any other room it sends up
// to 4 messages with the event name doctor, and the check duration does not run.
//
// # Bounds
//
// A hostile server costs bounded time and memory: a response header has at most 64 KiB, a body 256
// KiB, an event 1 MiB, and a stream 10,000 events and 16 MiB. No verdict contains a token, even if
// the server repeats it.
//
// # Files
//
// From bottom to top: verdict.go, fix.go, config.go, late.go, token.go, answer.go, stream.go,
// exam.go, service.go, origin.go, cookie.go, delivery.go, cutoff.go, leave.go, resume.go,
// doctor.go.
package doctor
