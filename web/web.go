// Package web embeds the files of the live page, and presence.js, the browser client. It also
// embeds llms.txt, which describes the HTTP API for assistants that write code. The package imports
// no other package of the project: the program that serves the files chooses their path and their
// headers.
//
// The page needs no inline script or style, and it loads nothing from another host. It therefore
// works with the default Content-Security-Policy of package presence.
//
// The page uses relative addresses, so it works under any prefix that ends in a slash. A server
// that mounts it at /presence/ must redirect /presence to /presence/.
//
// page.js is the entry point of the page and imports its other modules.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html page.css icon.svg llms.txt
//go:embed presence/*.js presence.js page.js dom.js words.js plot.js people.js status.js removal.js links.js messages.js
//go:embed history.js composer.js rooms.js away.js title.js refused.js
var files embed.FS

// Files contains the embedded files at its root: index.html, page.css, icon.svg, llms.txt,
// presence.js, page.js, and the modules that page.js imports. It is read-only and safe for
// concurrent use. The modules are dom.js, words.js, plot.js, people.js, status.js, removal.js,
// links.js, messages.js, history.js, composer.js, rooms.js, away.js, title.js, refused.js, and
// the directory presence, from which presence.js is made.
var Files fs.FS = files
