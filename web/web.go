// Package web is the live page and presence.js, the browser's client, as
// files inside the program. It knows no other package of the project: who
// serves it decides under which path and with which headers.
//
// The page holds no inline script or style and asks for nothing from another
// host, so the strictest policy fits it:
//
//	default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';
//	connect-src 'self'; base-uri 'none'; form-action 'none';
//	frame-ancestors 'none'
//
// Its addresses are relative: it works under any prefix that ends in a slash,
// and only there. Whoever mounts it at /presence/ redirects /presence to it.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html page.css page.js presence.js icon.svg
var files embed.FS

// Files holds index.html, page.css, page.js, presence.js and icon.svg, all at
// its root. Read-only, safe for concurrent use.
var Files fs.FS = files
