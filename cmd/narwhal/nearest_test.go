package main

import (
	"slices"
	"testing"

	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
)

func TestByDistance(t *testing.T) {
	member := func(id string, state cluster.State, zone string) cluster.Member {
		return cluster.Member{ID: id, State: state, Offer: cluster.Offer{Zone: zone}}
	}
	members := []cluster.Member{
		member("dead", cluster.Dead, "here"), member("far", cluster.Alive, "there"), member("near", cluster.Alive, "here"), member("also", cluster.Alive, "here"),
	}
	holders := []fsm.NodeID{"unknown", "dead", "bucket:b", "far", "near", "also"}
	want := []fsm.NodeID{"near", "also", "far", "bucket:b", "unknown", "dead"}
	if got := byDistance(holders, members, "here"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if holders[0] != "unknown" {
		t.Error("it has sorted the caller's list")
	}
}
