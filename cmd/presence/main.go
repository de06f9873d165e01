// Command presence runs the presence server and talks to one: serve, token,
// watch, send, health and version.
//
// Every flag can be given in the environment, as PRESENCE_ and its name in
// capitals; the flag wins. A variable of that kind that no flag has is a warning.
// What is wrong with a flag is one line on standard error and exit status 2, a
// failure after that one line and 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, end := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-signals
		signal.Stop(signals) // first, so that a second signal ends the process at once
		end()
	}()
	err := run(ctx, os.Args[1:], &process{
		getenv: os.Getenv, environ: os.Environ, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
	os.Exit(status(err))
}

// status is the exit status that says what err is.
func status(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(usageError)):
		return 2
	}
	return 1
}

// commands is the command line.
type commands struct {
	Serve   serve       `cmd:"" help:"Run the server"`
	Token   token       `cmd:"" help:"Print a token, signed with the server's secret"`
	Watch   watch       `cmd:"" help:"Print a room's events as they come"`
	Send    send        `cmd:"" help:"Post a message to a room, and print its id"`
	Health  health      `cmd:"" help:"Ask the local server whether it is alive"`
	Version versionLine `cmd:"" help:"Print the version"`

	VersionFlag versionFlag `name:"version" short:"v" help:"Print the version."`
}

// run runs the command that args name until it is done or ctx ends. What went
// wrong it also writes to stderr, in one line.
func run(ctx context.Context, args []string, p *process) error {
	err := execute(ctx, args, p)
	if err != nil {
		fmt.Fprintln(p.stderr, "presence:", printable(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	return err
}

func execute(ctx context.Context, args []string, p *process) error {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	done := false
	parser, err := newParser(ctx, p, func(int) { done = true }) // --help and --version call it
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if done {
		return nil
	}
	p.unknown = unknownVariables(parser.Model, p.environ())
	if err != nil {
		p.warnUnknown()
		return usageError{err}
	}
	switch command.Command() {
	case "serve": // its log has a format of its own
	case "version": // reads no variable
	default:
		p.warnUnknown()
	}
	return command.Run()
}

func newParser(ctx context.Context, p *process, exit func(int)) (*kong.Kong, error) {
	return kong.New(new(commands),
		kong.Name("presence"),
		kong.Description("A self-hosted presence server: who is here now, told over Server-Sent Events."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(helpLine),
		kong.KindMapper(reflect.String, kong.MapperFunc(verbatim)),
		kong.TypeMapper(reflect.TypeFor[size](), kong.MapperFunc(sizeOf)),
		kong.Resolvers(environment(p.getenv)),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
	)
}
