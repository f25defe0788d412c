// A line server in Go over TLS, for the benchmarks: sends each line back, drops who is silent for two minutes. Its
// listening socket is descriptor 3; its arguments are the files of certificate and key.
// SPDX-License-Identifier: BSL-1.0
package main

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"runtime"
	"time"
)

func session(peer net.Conn) {
	defer peer.Close()
	lines := bufio.NewReader(peer)
	for {
		peer.SetReadDeadline(time.Now().Add(2 * time.Minute))
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
	certificate, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	if err != nil {
		os.Exit(1)
	}
	plain, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		os.Exit(1)
	}
	listener := tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{certificate}})
	for {
		if peer, err := listener.Accept(); err == nil {
			go session(peer)
		}
	}
}
