// SPDX-License-Identifier: MIT
// What goji's graceful/listener costs, by its public functions over connections that cost nothing:
// lines of NAME KEY=NUMBER, as bench.h's. Built with GO111MODULE=off against Debian's package.
package main

import (
	"fmt"
	"net"
	"runtime"
	"sort"
	"testing"
	"time"

	"github.com/zenazn/goji/graceful/listener"
)

// A connection and a listener without a kernel.
type fakeConn struct{ net.Conn }

func (fakeConn) Read(b []byte) (int, error) { return len(b), nil }
func (fakeConn) Close() error               { return nil }

type fakeListener struct{ net.Listener }

func (fakeListener) Accept() (net.Conn, error) { return fakeConn{}, nil }

const rounds = 21

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

// The median time of one step in ns, of `rounds` turns of each.
func interleaved(n int, steps ...func(n int)) []float64 {
	times := make([][]float64, len(steps))
	for r := 0; r < rounds; r++ {
		for i, step := range steps {
			begin := time.Now()
			step(n)
			times[i] = append(times[i], float64(time.Since(begin).Nanoseconds())/float64(n))
		}
	}
	medians := make([]float64, len(steps))
	for i := range steps {
		medians[i] = median(times[i])
	}
	return medians
}

func accept(t *listener.T) net.Conn {
	c, err := t.Accept()
	if err != nil {
		panic(err)
	}
	return c
}

func main() {
	buf := make([]byte, 64)
	t := listener.Wrap(fakeListener{}, listener.Automatic)
	var bare net.Conn = fakeConn{}
	wrapped := accept(t)
	read := func(c net.Conn) func(n int) {
		return func(n int) {
			for i := 0; i < n; i++ {
				c.Read(buf)
			}
		}
	}
	ns := interleaved(200000, read(bare), read(wrapped), func(n int) {
		for i := 0; i < n; i++ {
			wrapped.Read(buf)
			listener.MarkIdle(wrapped)
		}
	}, func(n int) {
		for i := 0; i < n; i++ {
			accept(t).Close()
		}
	})
	fmt.Printf("goji_read bare=%.2f goji=%.2f more=%.2f\n", ns[0], ns[1], ns[1]-ns[0])
	fmt.Printf("goji_marked bare=%.2f goji=%.2f more=%.2f\n", ns[0], ns[2], ns[2]-ns[0])
	allocations := testing.AllocsPerRun(10000, func() { accept(t).Close() })
	fmt.Printf("goji_accept goji=%.2f allocations=%.0f\n", ns[3], allocations)

	const many = 1000000
	best := 0.0 // of a few: what takes longer than a time slice shares the processor
	for r := 0; r < 3; r++ {
		t = listener.Wrap(fakeListener{}, listener.Automatic)
		for i := 0; i < many; i++ {
			accept(t)
		}
		runtime.GC()
		begin := time.Now()
		t.CloseIdle()
		if ms := time.Since(begin).Seconds() * 1000; best == 0 || ms < best {
			best = ms
		}
	}
	fmt.Printf("goji_close_idle connections=%d ms=%.1f\n", many, best)
}
