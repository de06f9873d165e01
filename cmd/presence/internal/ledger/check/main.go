// Command check checks a ledger, which it reads from standard input as JSON lines:
//
//	go run ./cmd/presence/internal/ledger/check < ledger.jsonl
//
// It prints each fault, and then a summary. The exit status is 1 if there is a fault, and 2 if the
// ledger cannot be read.
package main

import (
	"fmt"
	"os"

	"example.com/presence/cmd/presence/internal/ledger"
)

func main() {
	records, err := ledger.Read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	report := ledger.Check(records)
	for _, fault := range report.Faults {
		fmt.Println(fault)
	}
	fmt.Println(report)
	if len(report.Faults) > 0 {
		os.Exit(1)
	}
}
