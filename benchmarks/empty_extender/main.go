// A do-nothing scheduler extender: every node fits, all have the same score, bind posts a plain Binding.
// It costs what kube-scheduler's extender protocol costs. The benchmark compares Kerf with it.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
)

type nodesQuery struct {
	NodeNames []string
}

type bindQuery struct {
	PodName, PodNamespace, PodUID, Node string
}

type hostScore struct {
	Host  string
	Score int64
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Print(err)
	}
}

func decode[T any](r *http.Request) T {
	var value T
	if err := json.NewDecoder(r.Body).Decode(&value); err != nil {
		log.Print(err)
	}
	return value
}

func main() {
	listen := flag.String("bind", "", "HOST:PORT to serve on")
	server := flag.String("server", "", "URL of the API server")
	cert := flag.String("cert", "", "client certificate")
	key := flag.String("key", "", "client key")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	// The benchmark's own API server on loopback; its certificate does not matter here.
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true},
		MaxIdleConnsPerHost: 64,
		ForceAttemptHTTP2:   true,
	}
	client := &http.Client{Transport: transport}

	http.HandleFunc("/filter", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]any{"NodeNames": decode[nodesQuery](r).NodeNames})
	})
	http.HandleFunc("/prioritize", func(w http.ResponseWriter, r *http.Request) {
		names := decode[nodesQuery](r).NodeNames
		scores := make([]hostScore, len(names))
		for i, name := range names {
			scores[i] = hostScore{Host: name}
		}
		reply(w, scores)
	})
	http.HandleFunc("/bind", func(w http.ResponseWriter, r *http.Request) {
		query := decode[bindQuery](r)
		body, _ := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Binding",
			"metadata": map[string]any{"name": query.PodName, "namespace": query.PodNamespace, "uid": query.PodUID},
			"target":   map[string]any{"apiVersion": "v1", "kind": "Node", "name": query.Node},
		})
		url := fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s/binding", *server, query.PodNamespace, query.PodName)
		answer, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			reply(w, map[string]string{"Error": err.Error()})
			return
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode >= 400 {
			reply(w, map[string]string{"Error": string(text)})
			return
		}
		reply(w, map[string]string{})
	})
	http.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
