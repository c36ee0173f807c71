package main

import (
	"crypto/tls"
	"sync"
)

// certificatePair is the server's certificate on the disk.
type certificatePair struct {
	certificate, key string

	mu   sync.Mutex
	last *tls.Certificate
}

func (p *certificatePair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.certificate, p.key)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.last = &pair
	}
	if p.last != nil {
		return p.last, nil // half a renewal: the pair on the disk does not match yet
	}
	return nil, err
}
