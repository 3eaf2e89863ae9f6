// Walk checks a log with code that is not ours: policy, cosignatures, tiles and entry bundles.
//
//	walk POLICY-FILE BASE-URL
//
// It prints "size N root HASH entries N" when every leaf of the tree was read and verified.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := walk(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "walk:", err)
		os.Exit(1)
	}
}

func walk(policyFile, base string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return err
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	fetcher, err := torchwood.NewTileFetcher(strings.TrimRight(base, "/"))
	if err != nil {
		return err
	}
	signed, err := fetcher.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		return fmt.Errorf("fetching the checkpoint: %w", err)
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	client, err := torchwood.NewClient(fetcher)
	if err != nil {
		return err
	}
	entries := int64(0)
	for index, entry := range client.AllEntries(ctx, checkpoint.Tree, 0) {
		if index != entries || len(entry) == 0 {
			return fmt.Errorf("entry %d: out of order or empty", index)
		}
		entries++
	}
	if err := client.Err(); err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	if entries != checkpoint.Tree.N {
		return fmt.Errorf("read %d of %d entries", entries, checkpoint.Tree.N)
	}
	fmt.Printf("size %d root %s entries %d\n", checkpoint.Tree.N, tlog.Hash(checkpoint.Tree.Hash), entries)
	return nil
}
