package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/config"
)

// A status is what the admin API tells about generations.
type status struct {
	mu  sync.Mutex
	now generationReport
}

// A generationReport is the answer of /api/generation.
type generationReport struct {
	Number   uint64    `json:"number"`
	File     string    `json:"file"`
	SHA256   string    `json:"sha256"` // of the file
	Since    time.Time `json:"since"`
	Routes   int       `json:"routes"`
	Backends int       `json:"backends"`
	Reloads  struct {
		OK    int `json:"ok"`
		Error int `json:"error"`
	} `json:"reloads"`
	// Error is why the last reload failed; nil where it did not.
	Error *reloadError `json:"error"`
}

type reloadError struct {
	At     time.Time `json:"at"`
	Faults []string  `json:"faults"`
}

func (s *status) report() generationReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// swapped tells that next, read from src, is served from now on.
func (s *status) swapped(src source, next *setup) {
	sum := sha256.Sum256(src.data)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Number = next.gen.Number()
	s.now.File = src.name
	s.now.SHA256 = hex.EncodeToString(sum[:])
	s.now.Since = time.Now().UTC()
	s.now.Routes, s.now.Backends = len(next.file.Routes), len(next.file.Backends)
}

// reloaded tells how a reload ended.
func (s *status) reloaded(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.now.Reloads.OK++
		s.now.Error = nil
		return
	}
	s.now.Reloads.Error++
	s.now.Error = &reloadError{At: time.Now().UTC(), Faults: faultLines(err)}
}

// faultLines is err with one line a fault.
func faultLines(err error) []string {
	var faults *config.Faults
	if !errors.As(err, &faults) {
		return strings.Split(err.Error(), "\n")
	}
	lines := make([]string, len(faults.List))
	for i, f := range faults.List {
		lines[i] = f.Error()
	}
	return lines
}
