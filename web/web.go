// Package web is the live page and presence.js, the browser's client, as
// files inside the program: page.js puts together what the modules beside it
// show. It knows no other package of the project: who serves it decides under
// which path and with which headers.
//
// The page has no inline script or style and loads nothing from another host. The
// default Content-Security-Policy of package presence fits it.
//
// Its addresses are relative: it works under any prefix that ends in a slash,
// and only there. Whoever mounts it at /presence/ redirects /presence to it.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html page.css icon.svg
//go:embed presence.js page.js dom.js words.js plot.js people.js messages.js composer.js rooms.js away.js
var files embed.FS

// Files holds index.html, page.css, icon.svg, and the modules: presence.js, and
// page.js with dom.js, words.js, plot.js, people.js, messages.js, composer.js,
// rooms.js and away.js. All are at its root. Read-only, safe for concurrent use.
var Files fs.FS = files
