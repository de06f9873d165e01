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

// token prints a token.
type token struct {
	Sub   string        `required:"" placeholder:"USER" help:"Who it is for"`
	Name  string        `placeholder:"NAME" help:"What to call the user"`
	Join  []string      `placeholder:"ROOM" help:"Room to join, * for any run of characters; repeatable; without --join and --send the lobby, for both"`
	Send  []string      `placeholder:"ROOM" help:"Room to send to; repeatable"`
	Info  string        `placeholder:"JSON" help:"What the members of a room are told of the user"`
	Admin bool          `help:"May look into every room and remove users"`
	SID   string        `name:"sid" placeholder:"ID" help:"Tells two sign-ins of one user apart"`
	TTL   time.Duration `name:"ttl" default:"1h" help:"How long it lasts; 0s for ever"`

	secretFlags `group:"Signature (one secret is required, that of the server)"`
}

// Run prints the token and nothing else.
func (c *token) Run(p *process) error {
	flag, err := oneOf("--jwt-secret", c.JWTSecret, "--jwt-secret-file", c.JWTSecretFile)
	switch {
	case err != nil:
		return err
	case c.Sub == "":
		return usagef("--sub must not be empty")
	case c.TTL < 0:
		return usagef("--ttl is at least 0s, not %v", c.TTL)
	case flag == "":
		return usagef("no secret to sign with: give --jwt-secret-file or --jwt-secret")
	}
	_, secret, err := c.secret()
	if err != nil {
		return usagef("%s: %w", flag, err)
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
		return usagef("--%s %s", bad.Claim, bad.Reason) // sub, name or info, whose flags have these names
	} else if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(p.stdout, minted)
	return err
}

// patterns checks the rooms of a flag: each is a room's name in which * may stand for any run of
// characters. A token of others would be valid and admit to no room.
func patterns(flag string, rooms []string) error {
	if rooms != nil && len(rooms) == 0 { // what kong makes of an empty value
		rooms = []string{""}
	}
	for _, pattern := range rooms {
		if _, err := room.ParseName(strings.ReplaceAll(pattern, "*", "x")); err != nil {
			return usagef("%s is 1 to 128 of A-Z a-z 0-9 . _ - and *, not %q", flag, pattern)
		}
	}
	return nil
}
