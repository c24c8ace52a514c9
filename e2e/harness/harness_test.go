package harness

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestProcessTellsHowItEnded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := Spawn(ctx, []string{"WORD=heard"}, "sh", "-c", `trap 'echo stopping; exit 0' TERM; echo "$WORD"; while :; do sleep 0.1; done`)
	if err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(p.Log(), "heard") { // bounded by the process's context
		select {
		case <-p.Exited():
			t.Fatalf("ended early: %v", p.Wait(ctx))
		default:
		}
	}
	if n, err := p.PeakRSS(); err != nil || n < 64<<10 {
		t.Errorf("PeakRSS = %d, %v; want some memory", n, err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := p.Wait(ctx); err != nil || !strings.HasSuffix(p.Log(), "stopping\n") {
		t.Errorf("Wait = %v, log %q; want a graceful end", err, p.Log())
	}
}

func TestKillLeavesNoTimeToStop(t *testing.T) {
	p, err := Spawn(t.Context(), nil, "sh", "-c", `trap 'echo stopping' TERM; while :; do sleep 0.1; done`)
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if err := p.Wait(t.Context()); err == nil || strings.Contains(p.Log(), "stopping") {
		t.Errorf("Wait = %v, log %q; want it killed", err, p.Log())
	}
}

func TestAwaitReportsAnEarlyEnd(t *testing.T) {
	p, err := Spawn(t.Context(), nil, "sh", "-c", "echo no such key >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.await(t.Context(), "http://"+addr+"/"); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("await = %v, want what the process said", err)
	}
}

func TestFreeAddrIsFree(t *testing.T) {
	addr, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestRunReportsStderr(t *testing.T) {
	if _, err := Run(t.Context(), "sh", "-c", "echo why >&2; exit 1"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("Run = %v, want the program's own words", err)
	}
}
