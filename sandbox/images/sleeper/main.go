// Command sleeper is the only program in the sandbox's images: it tells what a container was given, then waits.
//
// It prints its environment as KEY=VALUE lines, sorted. For every --cat PATH it prints file:PATH=BASE64, for every
// --list DIR list:DIR=NAME,NAME… (sorted), for a path that cannot be read error:PATH=REASON, and last the line "ready".
// With --write PATH the same text goes to that file as well. With --exit N it exits with N at once, else it waits for
// SIGTERM or SIGINT and exits with 0. With --sleep DURATION it exits (with N, or 0) after that time.
// As a pause image it is started with no arguments, and reaps what it inherits.
package main

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"
)

type paths []string

func (p *paths) String() string     { return strings.Join(*p, ",") }
func (p *paths) Set(v string) error { *p = append(*p, v); return nil }

func main() {
	var cat, list paths
	flag.Var(&cat, "cat", "print the content of a file, in base64 (repeatable)")
	flag.Var(&list, "list", "print the names in a directory (repeatable)")
	write := flag.String("write", "", "write the report to a file, too")
	code := flag.Int("exit", -1, "exit with this code instead of waiting")
	sleep := flag.Duration("sleep", 0, "exit after this long")
	flag.Parse()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go reap()

	text := report(cat, list)
	fmt.Print(text)
	if *write != "" {
		if err := os.WriteFile(*write, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	switch {
	case *sleep > 0:
		select {
		case <-time.After(*sleep):
			os.Exit(max(*code, 0))
		case <-signals:
		}
	case *code >= 0:
		os.Exit(*code)
	default:
		<-signals
	}
}

func report(cat, list paths) string {
	lines := os.Environ()
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, "\n", `\n`)
	}
	sort.Strings(lines)
	for _, path := range cat {
		content, err := os.ReadFile(path)
		lines = append(lines, line("file", path, base64.StdEncoding.EncodeToString(content), err))
	}
	for _, path := range list {
		entries, err := os.ReadDir(path)
		names := make([]string, len(entries))
		for i, entry := range entries {
			names[i] = entry.Name()
		}
		lines = append(lines, line("list", path, strings.Join(names, ","), err))
	}
	return strings.Join(append(lines, "ready"), "\n") + "\n"
}

func line(kind, path, value string, err error) string {
	if err != nil {
		return fmt.Sprintf("error:%s=%v", path, err)
	}
	return fmt.Sprintf("%s:%s=%s", kind, path, value)
}

// reap collects orphans where this program is process 1 of a pod. It has no children of its own.
func reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for range children {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
