package service

import (
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
)

// Digest is the SHA-256 of what went one way.
type Digest [sha256.Size]byte

// payload gives count bytes that do not compress and that no shift or repetition leaves equal.
func payload(count int64) io.Reader {
	var seed [32]byte
	for i := range 4 {
		value := rand.Uint64()
		for j := range 8 {
			seed[8*i+j] = byte(value >> (8 * j))
		}
	}
	return io.LimitReader(rand.NewChaCha8(seed), count)
}

// send copies count payload bytes to sink and gives their digest.
func send(sink io.Writer, count int64) (Digest, error) {
	sum := sha256.New()
	_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sum, sink)}, payload(count), make([]byte, streamBytes))
	return digestOf(sum), err
}

// receive reads source to its end and gives the digest and the number of bytes.
func receive(source io.Reader) (Digest, int64, error) {
	sum := sha256.New()
	count, err := io.CopyBuffer(struct{ io.Writer }{sum}, source, make([]byte, streamBytes))
	return digestOf(sum), count, err
}

func digestOf(sum hash.Hash) Digest {
	return Digest(sum.Sum(nil))
}
