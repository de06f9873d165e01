package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/room"
)

// token is the command that prints a token.
type token struct {
	Sub   string        `required:"" placeholder:"USER" help:"User ID, 1 to 256 bytes. Required."`
	Name  string        `placeholder:"NAME" help:"Display name of the user, at most 128 bytes. Default: none."`
	Join  []string      `placeholder:"ROOM" help:"Room that the user may join. * matches any run of characters. Repeatable. Default: lobby, or no room if --send is set."`
	Send  []string      `placeholder:"ROOM" help:"Room that the user may send messages to. * matches any run of characters. Repeatable. Default: lobby, or no room if --join is set."`
	Info  string        `placeholder:"JSON" help:"JSON data about the user that the members of a room receive, at most 1KiB. Default: {}."`
	Admin bool          `help:"Allow the token to list all rooms, to join, watch and send to each of them, and to ban users. Default: off."`
	SID   string        `name:"sid" placeholder:"ID" help:"Session ID, which distinguishes the sign-ins of one user. Default: none."`
	TTL   time.Duration `name:"ttl" default:"1h" help:"Lifetime of the token, such as 30m. 0s means no expiry. Default: 1h."`

	secretFlags `group:"Signature (a secret of the server is required)"`
}

// Help returns the example that --help prints.
func (token) Help() string {
	return "Example:\n\n    presence token --jwt-secret-file ./secret --sub alice --name Alice --join 'doc-*'"
}

// Run prints only the token, so that a script can use the output.
func (c *token) Run(p *process) error {
	switch {
	case c.Sub == "":
		return usagef("--sub must not be empty")
	case c.TTL < 0:
		return usagef("--ttl is at least 0s, not %v", c.TTL)
	case !c.hasSecret():
		return usagef("no signing secret: set --jwt-secret-file or --jwt-secret")
	}
	_, secret, err := c.secrets(readLimited)
	if err != nil {
		return err
	}
	if err := cmp.Or(patterns("--join", c.Join), patterns("--send", c.Send)); err != nil {
		return err
	}
	minted, err := auth.Mint(secret, auth.Claims{
		Sub:      c.Sub,
		Name:     c.Name,
		Join:     c.Join,
		Send:     c.Send,
		Info:     json.RawMessage(c.Info),
		Admin:    c.Admin,
		SID:      c.SID,
		Issuer:   c.JWTIssuer,
		Audience: c.JWTAudience,
		TTL:      c.TTL,
	})
	if bad := new(auth.ClaimError); errors.As(err, &bad) {
		return usagef("--%s %s", bad.Claim, bad.Reason) // the claims sub, name and info have flags of the same name
	} else if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(p.stdout, minted)
	return err
}

// patterns validates the room patterns of a flag. A pattern is a room name in which * may replace
// any run of characters. A token with an invalid pattern would be accepted, but the pattern would
// match no room.
func patterns(flag string, rooms []string) error {
	if rooms != nil && len(rooms) == 0 { // kong parses an empty value as an empty list
		rooms = []string{""}
	}
	for _, pattern := range rooms {
		if _, err := room.ParseName(strings.ReplaceAll(pattern, "*", "x")); err != nil {
			return usagef("%s is 1 to 128 characters of A-Z a-z 0-9 . _ - and *, not %q", flag, pattern)
		}
	}
	return nil
}
