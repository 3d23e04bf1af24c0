// SPDX-License-Identifier: MIT
// h2_pair URL DIRECTORY: Go's net/http as a client of HTTP/2, in the clear by golang.org/x/net/http2; else as
// h2_pair.py.
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

var names = []string{"slow", "loop", "ten", "idle"}
var rows = map[string]*[2]int{"slow": {}, "loop": {}, "ten": {}, "idle": {}}
var lock sync.Mutex

func channel() *http.Client {
	if strings.HasPrefix(os.Args[1], "https") {
		any := &tls.Config{InsecureSkipVerify: true}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: any, ForceAttemptHTTP2: true}, Timeout: 20 * time.Second}
	}
	dial := func(network, addr string, _ *tls.Config) (net.Conn, error) { return net.Dial(network, addr) }
	return &http.Client{Transport: &http2.Transport{AllowHTTP: true, DialTLS: dial}, Timeout: 20 * time.Second}
}

func get(client *http.Client, path string) error {
	answer, err := client.Get(os.Args[1] + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err = io.ReadAll(answer.Body); err == nil && answer.StatusCode != 200 {
		err = errors.New(answer.Status)
	}
	return err
}

func ask(row string, client *http.Client, path string) bool {
	err := get(client, path)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	lock.Lock()
	defer lock.Unlock()
	rows[row][1]++
	if err != nil {
		rows[row][0]++
		if os.Getenv("PAIR_SAYS") != "" {
			fmt.Fprintln(os.Stderr, row, err)
		}
	}
	return err == nil
}

func main() {
	var all sync.WaitGroup
	begin := func(does func()) {
		all.Add(1)
		go func() { defer all.Done(); does() }()
	}
	loop := func(row string, client *http.Client) {
		for ask(row, client, "/") {
			time.Sleep(time.Millisecond)
		}
	}
	channels := make([]*http.Client, 10)
	for i := range channels {
		channels[i] = channel()
		if err := get(channels[i], "/"); err != nil {
			panic(err)
		}
	}
	begin(func() { ask("slow", channels[0], "/slow3") })
	for i := 1; i < 5; i++ {
		client := channels[i]
		begin(func() { loop("loop", client) })
	}
	for i := 0; i < 10; i++ {
		begin(func() { loop("ten", channels[5]) })
	}
	for i := 6; i < 10; i++ {
		client := channels[i]
		begin(func() {
			for _, err := os.Stat(os.Args[2] + "/next"); err != nil; _, err = os.Stat(os.Args[2] + "/next") {
				time.Sleep(20 * time.Millisecond)
			}
			ask("idle", client, "/")
		})
	}
	time.Sleep(300 * time.Millisecond)
	fmt.Println("ready")
	all.Wait()
	for i, name := range names {
		fmt.Printf("%s %d/%d%s", name, rows[name][0], rows[name][1], []string{" ", "\n"}[i/3])
	}
}
