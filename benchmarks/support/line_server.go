// A line server in Go, for the benchmarks: sends each line back, drops who is silent for 30 seconds. Its listening
// socket is descriptor 3.
// SPDX-License-Identifier: BSL-1.0
package main

import (
	"bufio"
	"net"
	"os"
	"runtime"
	"time"
)

func session(peer net.Conn) {
	defer peer.Close()
	lines := bufio.NewReader(peer)
	for {
		peer.SetReadDeadline(time.Now().Add(30 * time.Second))
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err = peer.Write(line); err != nil {
			return
		}
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		os.Exit(1)
	}
	for {
		if peer, err := listener.Accept(); err == nil {
			go session(peer)
		}
	}
}
