package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// targetMain is a target as a process of its own: at its first argument it says
// its second, and after SIGUSR1 it fails, until SIGUSR2.
func targetMain() {
	var broken atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			broken.Store(s == syscall.SIGUSR1)
		}
	}()
	err := http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(500)
		}
		fmt.Fprintln(w, os.Args[2])
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
