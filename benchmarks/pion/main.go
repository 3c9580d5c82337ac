// A program for pion/dtls that plays the roles of the reference in C, with the same options and lines of JSON.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"io"
	"net"
	"os"
	"sort"
	"time"

	"github.com/pion/dtls/v2"
)

const host = "device.example"

var (
	mode    = flag.String("mode", "", "")
	cert    = flag.String("cert", "", "")
	key     = flag.String("key", "", "")
	ca      = flag.String("ca", "", "")
	port    = flag.Int("port", 0, "")
	size    = flag.Int("size", 64, "")
	seconds = flag.Float64("seconds", 1, "")
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func say(words map[string]interface{}) {
	must(json.NewEncoder(os.Stdout).Encode(words))
}

func config(server bool) *dtls.Config {
	c := &dtls.Config{
		CipherSuites: []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), 30*time.Second)
		},
	}
	if server {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		must(err)
		c.Certificates = []tls.Certificate{pair}
		return c
	}
	pem, err := os.ReadFile(*ca)
	must(err)
	c.RootCAs = x509.NewCertPool()
	c.RootCAs.AppendCertsFromPEM(pem)
	c.ServerName = host
	return c
}

func loopback() *net.UDPAddr {
	return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: *port}
}

func listen() net.Listener {
	l, err := dtls.Listen("udp", loopback(), config(true))
	must(err)
	say(map[string]interface{}{"port": l.Addr().(*net.UDPAddr).Port, "pid": os.Getpid()})
	return l
}

func accept() net.Conn {
	conn, err := listen().Accept()
	must(err)
	return conn
}

func connect() net.Conn {
	conn, err := dtls.Dial("udp", loopback(), config(false))
	must(err)
	return conn
}

func receiveOneWay() {
	conn := accept()
	room := make([]byte, 16384)
	count := 0
	length, err := conn.Read(room)
	must(err)
	start := time.Now()
	for length > 1 {
		count++
		if length, err = conn.Read(room); err != nil {
			break
		}
	}
	took := time.Since(start).Seconds()
	say(map[string]interface{}{"records": count, "seconds": took, "per_second": float64(count) / took})
}

func sendOneWay() {
	conn := connect()
	data := make([]byte, *size)
	end := time.Now().Add(time.Duration(*seconds * 1e9))
	sent := 0
	for time.Now().Before(end) {
		for i := 0; i < 32; i++ {
			if _, err := conn.Write(data); err == nil {
				sent++
			}
		}
	}
	say(map[string]interface{}{"sent": sent})
	for i := 0; i < 20; i++ {
		time.Sleep(10 * time.Millisecond)
		_, _ = conn.Write(data[:1])
	}
}

func echoOne(conn net.Conn) {
	room := make([]byte, 16384)
	for {
		length, err := conn.Read(room)
		if err != nil {
			_ = conn.Close()
			return
		}
		if length == 1 && *mode == "" {
			return
		}
		if _, err = conn.Write(room[:length]); err != nil {
			return
		}
	}
}

func ping() {
	conn := connect()
	data := make([]byte, *size)
	room := make([]byte, 16384)
	taken := []int64{}
	start := time.Now()
	before := start
	end := start.Add(time.Duration(*seconds * 1e9))
	for before.Before(end) {
		_, err := conn.Write(data)
		must(err)
		_, err = conn.Read(room)
		must(err)
		after := time.Now()
		taken = append(taken, after.Sub(before).Nanoseconds())
		before = after
	}
	_, _ = conn.Write(data[:1])
	sort.Slice(taken, func(i, j int) bool { return taken[i] < taken[j] })
	say(map[string]interface{}{
		"per_second": float64(len(taken)) / before.Sub(start).Seconds(),
		"p50_us":     float64(taken[len(taken)/2]) / 1e3,
		"p99_us":     float64(taken[len(taken)*99/100]) / 1e3,
	})
}

// Any number of peers, each with goroutines of its own, until stdin ends. Accept shakes hands, so several run at a time.
func echo() {
	l := listen()
	for i := 0; i < 32; i++ {
		go func() {
			for {
				if conn, err := l.Accept(); err == nil {
					go echoOne(conn)
				}
			}
		}()
	}
	_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin))
}

func main() {
	roles := map[string]func(){
		"oneway-receive": receiveOneWay,
		"oneway-send":    sendOneWay,
		"pingpong-serve": func() { echoOne(accept()) },
		"pingpong":       ping,
		"echo":           echo,
	}
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		os.Exit(2)
	}
	must(flag.CommandLine.Parse(os.Args[2:]))
	roles[os.Args[1]]()
}
