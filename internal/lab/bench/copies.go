package main

import (
	"context"
	"errors"
	"fmt"
)

// logCopies floods two clusters in turn, one that copies and seals its logs on second
// nodes and one that does not: what the copies cost of the builds that pass in a
// second, as N builds a round show it.
func logCopies(ctx context.Context, with *bench) (err error) {
	n, rounds := number("N", 300), number("ROUNDS", 5)
	if _, err := with.repo.Commit("first", file("seq 100", "")); err != nil {
		return err
	}
	shas, err := with.repo.Commits(n + 1)
	if err != nil {
		return err
	}
	without := &bench{repo: with.repo, dir: with.dir}
	stop, err := without.start(ctx, "without", "process", []string{"--copy-logs=false"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var cost []float64
	for round := range rounds {
		rate := make(map[*bench]float64)
		order := []*bench{with, without}
		if round%2 == 1 {
			order = []*bench{without, with}
		}
		for _, b := range order {
			if err := b.warm(ctx, shas[0]); round == 0 && err != nil {
				return err
			}
			if rate[b], err = b.flood(ctx, shas[1:], fmt.Sprintf("copies-%d", round)); err != nil {
				return err
			}
		}
		cost = append(cost, 100*(1-rate[with]/rate[without]))
		say("round %d: %.1f builds/s with copies, %.1f without", round+1, rate[with], rate[without])
	}
	print("cost_pct", percentile(cost, 50))
	print("cost_min_pct", percentile(cost, 0))
	print("cost_max_pct", percentile(cost, 100))
	return nil
}
