// Command presence runs the presence server. It is also a command-line client of the server. Its
// subcommands are serve, token, watch, send, load, health, doctor and version.
//
// Each flag has an environment variable, whose name is PRESENCE_ followed by the flag's name in
// upper case with underscores. The flag overrides the variable. The command warns about a variable
// with this prefix that matches no flag.
//
// The command prints each error as one line on standard error. The exit status is 2 for an error in
// the command line, and 1 for any later error.
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
	go func() { // runs until the process exits
		<-signals
		signal.Stop(signals) // before end, so that a second signal terminates the process immediately
		end()
	}()
	err := run(ctx, os.Args[1:], &process{
		getenv: os.Getenv, environ: os.Environ, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
	os.Exit(status(err))
}

// status returns the exit status for an error of [run].
func status(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(usageError)):
		return 2
	}
	return 1
}

// commands defines the command line.
type commands struct {
	Serve   serve       `cmd:"" help:"Run the server until SIGINT or SIGTERM."`
	Token   token       `cmd:"" help:"Print a token signed with the server's secret."`
	Watch   watch       `cmd:"" help:"Print the events of a room, one per line, until interrupted."`
	Send    send        `cmd:"" help:"Send a message to a room and print the message ID."`
	Load    loadTest    `cmd:"" help:"Open many connections, send messages, and report how the server handles them."`
	Health  health      `cmd:"" help:"Check that the local server is alive, and exit with status 1 if it is not."`
	Doctor  examine     `cmd:"" help:"Find the faults between clients and a server, such as a proxy that buffers."`
	Version versionLine `cmd:"" help:"Print the versions of presence and of Go."`

	VersionFlag versionFlag `name:"version" short:"v" help:"Print the version."`
}

// run runs the command that args name until it completes or ctx is done. It also prints the error
// that it returns to stderr, as one line.
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
	parser, err := newParser(ctx, p, func(int) { done = true }) // called for --help and --version
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
	case "serve": // logs the warnings itself
	case "version": // ignores the variables
	default:
		p.warnUnknown()
	}
	return command.Run()
}

func newParser(ctx context.Context, p *process, exit func(int)) (*kong.Kong, error) {
	return kong.New(new(commands),
		kong.Name("presence"),
		kong.Description("Self-hosted presence server: live user counts, members and messages over SSE."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Help(printHelp),
		kong.ValueFormatter(helpLine),
		kong.KindMapper(reflect.String, kong.MapperFunc(verbatim)),
		kong.TypeMapper(reflect.TypeFor[size](), kong.MapperFunc(sizeOf)),
		kong.Resolvers(environment(p.getenv)),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
	)
}
