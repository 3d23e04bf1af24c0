// SPDX-License-Identifier: MIT
// pool_client PORT SECONDS WORKERS: Go's net/http; else as pool_client.py.
package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var client = &http.Client{Timeout: 10 * time.Second}
var url = "http://127.0.0.1:" + os.Args[1] + "/slow?0.01"

func post(id string) string {
	for {
		answer, err := client.Post(url, "text/plain", strings.NewReader(id))
		if errors.Is(err, syscall.ECONNREFUSED) { // nothing has been sent
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Sprintf("lost %s: %v", id, err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || string(text) != id {
			return fmt.Sprintf("lost %s: %d %s %v", id, answer.StatusCode, text, err)
		}
		return "answered " + id
	}
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[2], 64)
	workers, _ := strconv.Atoi(os.Args[3])
	client.Transport = &http.Transport{MaxIdleConnsPerHost: workers}
	ended := make(chan struct{})
	go func() {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		select {
		case <-told:
		case <-time.After(time.Duration(seconds * float64(time.Second))):
		}
		close(ended)
	}()
	goesOn := func() bool {
		select {
		case <-ended:
			return false
		default:
			return true
		}
	}
	var all sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			for number := 1; goesOn(); number++ {
				fmt.Println(post(fmt.Sprintf("%d-%d", worker, number)))
				time.Sleep(time.Duration(rand.Intn(3000)) * time.Microsecond)
			}
		}(worker)
	}
	all.Wait()
}
