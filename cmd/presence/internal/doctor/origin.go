package doctor

import (
	"context"
	"net/http"
	"strings"
)

// checkHost checks that the server sees the host of its URL. If a browser sends no Sec-Fetch-Site,
// as over plain HTTP, the server compares Host with Origin.
func checkHost(ctx context.Context, x *exam) Verdict {
	a, err := x.do(ctx, http.MethodGet, "session", "", "Origin", x.own)
	switch {
	case err != nil:
		return fault("GET session from a page of %s: %v", x.own, err)
	case a.status == http.StatusForbidden && a.problem() != "":
		return fault("a page of the server's own origin %s is refused: %s", x.own, a.problem()).with(passHost.of(x.proxy)...)
	}
	return pass("the server sees the host of %s", x.own)
}

// checkCORS checks that a page of another origin can use the server.
func checkCORS(ctx context.Context, x *exam) Verdict {
	if x.page == x.own {
		return note("not run: no other origin, set --origin to that of the page")
	}
	preflight, err := x.do(ctx, http.MethodOptions, "messages", "", "Origin", x.page,
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
	if err != nil {
		return fault("preflight from %s: %v", x.page, err)
	}
	if refused := preflight.problem(); strings.Contains(refused, "cross-origin") {
		return fault("pages of %s are refused: %s", x.page, refused).with(flag("--cors-origin %s", x.page))
	}
	if why := x.denied(preflight); why != "" {
		return x.cors("preflight of POST messages: " + why)
	}
	if preflight.status < 200 || preflight.status > 299 {
		return x.cors("preflight of POST messages: " + preflight.String())
	}
	for header, want := range map[string][]string{"Access-Control-Allow-Methods": {"POST"}, "Access-Control-Allow-Headers": {"Authorization", "Content-Type"}} {
		for _, w := range want {
			if !lists(preflight.header, header, w) {
				return x.cors("preflight of POST messages: no " + w + " in " + header)
			}
		}
	}
	// Without a token the status is 401. A page must be able to read that too.
	a, err := x.do(ctx, http.MethodGet, "events", "", "Origin", x.page)
	if err != nil {
		return fault("GET events from %s: %v", x.page, err)
	}
	post, err := x.do(ctx, http.MethodPost, "messages", `{"data":""}`, "Origin", x.page)
	if err != nil {
		return fault("POST messages from %s: %v", x.page, err)
	}
	if why := x.denied(post); why != "" && !post.isRedirect() { // see redirect
		return x.cors("POST messages: " + why)
	}
	all := []answer{a}
	if x.traffic != nil && x.traffic.answered() != nil {
		all = append(all, *x.traffic.answered()) // some proxies change only a 200
	}
	for _, a = range all {
		if why := x.denied(a); why != "" {
			return x.cors("GET events: " + why)
		}
	}
	if a.header.Get("Access-Control-Allow-Credentials") != "true" {
		return note("pages of %s may use a token, but not the cookie: no Access-Control-Allow-Credentials", x.page).with(flag("--cors-origin %s", x.page))
	}
	return pass("pages of %s may use the server, with a token and with the cookie", x.page)
}

// denied returns the reason for which a page cannot read an answer, or "" (WHATWG Fetch section
// 4.10).
func (x *exam) denied(a answer) string {
	switch all := a.header.Values("Access-Control-Allow-Origin"); {
	case len(all) == 0:
		return "no Access-Control-Allow-Origin in " + a.String()
	case len(all) > 1:
		return "two headers Access-Control-Allow-Origin, of presence and of a proxy, of which browsers accept none"
	case all[0] == "*" && a.header.Get("Access-Control-Allow-Credentials") == "true":
		return "Access-Control-Allow-Origin is * with Access-Control-Allow-Credentials, which browsers refuse for the cookie"
	case all[0] != x.page && all[0] != "*":
		return "Access-Control-Allow-Origin is " + cut(all[0])
	}
	return ""
}

// cors returns the fault for headers that a proxy may have changed.
func (x *exam) cors(why string) Verdict {
	return fault("pages of %s cannot use the server: %s", x.page, why).with(flag("--cors-origin %s", x.page)).with(passPreflight.of(x.proxy)...)
}

// lists reports whether a header has the item, or a wildcard, in its lists.
func lists(h http.Header, name, item string) bool {
	for _, list := range h.Values(name) {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimSpace(one); strings.EqualFold(one, item) || one == "*" && item != "Authorization" {
				return true
			}
		}
	}
	return false
}
