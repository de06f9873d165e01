// Package web has the live page and presence.js, the browser client, as embedded files. page.js
// combines the other modules of the page. The package imports no other package of the project: the
// caller that serves the files chooses the path and the headers.
//
// The page has no inline script or style and loads nothing from another host. It works with the
// default Content-Security-Policy of package presence.
//
// Its addresses are relative. It works under any prefix that ends in a slash, and only there: a
// server that mounts it at /presence/ must redirect /presence to it.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html page.css icon.svg
//go:embed presence.js page.js dom.js words.js plot.js people.js messages.js composer.js rooms.js away.js
var files embed.FS

// Files has index.html, page.css, icon.svg and the modules, all at its root. The modules are
// presence.js, and page.js with dom.js, words.js, plot.js, people.js, messages.js, composer.js,
// rooms.js and away.js. Files is read-only and safe for concurrent use.
var Files fs.FS = files
