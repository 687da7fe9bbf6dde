package pipeline

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// square is a matrix of 256 with these lines in each of its jobs.
func square(head, lines string) string {
	var n []string
	for i := range 16 {
		n = append(n, fmt.Sprint(i))
	}
	all := strings.Join(n, ", ")
	return head + "jobs:\n  all:\n    matrix: {a: [" + all + "], b: [" + all + "]}\n" + lines
}

// TestSizeOfPlans sees that what Read takes can be planned for commits whose names are
// long, and that what can't is refused by Read, with the place and the number.
func TestSizeOfPlans(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{7})
	noise := func(size int) string {
		raw := make([]byte, size*3/4)
		_, _ = rng.Read(raw)
		return base64.StdEncoding.EncodeToString(raw)
	}
	script := func(lines int) string {
		var b strings.Builder
		for i := range lines {
			if i%2000 == 0 {
				b.WriteString("    - command: |\n")
			}
			fmt.Fprintf(&b, "        install -m 644 build/%x/%s.o \"$target/%d\"\n", i*i, noise(4), i)
		}
		return b.String()
	}
	six := "    steps:\n" + strings.Repeat("      - {name: an ordinary step, command: 'go test -race -count=1 ./...', env: {LEVEL: debug, HOME: /root}}\n", 6)
	wide := "    env: {B: \"${A}\", C: \"${A}\"}\n    steps: [" + strings.Repeat("{command: "+strings.Repeat("x", 34)+"}, ", 250) + "]\n"
	long := onMain
	long.Repo = strings.Repeat("long/", 40) + "name"
	long.Ref, long.Branch = "refs/heads/"+strings.Repeat("b", 200), strings.Repeat("b", 200)
	for _, c := range []struct{ name, file, want string }{
		{"256 jobs of six steps", square("", six), ""},
		{"256 jobs of names of commits", square("env: {X: \"${NARWHAL_REPO} ${NARWHAL_REF} ${NARWHAL_COMMIT}\"}\n", six), ""},
		{"250 KB of script", "jobs:\n  one:\n    steps:\n" + script(5000), ""},
		{"scripts that can't be packed", "jobs:\n  one: {steps: [{command: make}]}\n  two: {steps: [{command: " + noise(120<<10) + "}, {command: " + noise(120<<10) + "}, {command: " + noise(60<<10) + "}]}\n",
			"narwhal.yml:3:3: packed for the cluster's log the jobs have "},
		{"written out", square("env: {A: "+strings.Repeat("a", 5000)+"}\n", wide),
			"narwhal.yml:3:3: with the top's defaults and matrices written out the jobs have "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Read("narwhal.yml", []byte(c.file), Options{})
			if c.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.want) || !strings.Contains(err.Error(), "bytes") {
					t.Fatalf("got %.300v, want %s", err, c.want)
				}
				checkErrors(t, err)
				return
			}
			if err != nil {
				t.Fatalf("%.300s", err)
			}
			p, err := f.Plan(long)
			if err != nil {
				t.Fatalf("%.300s", err)
			}
			packed, err := p.Pack()
			if err != nil || len(packed) > MaxPacked {
				t.Fatalf("packed it has %d bytes: %v", len(packed), err)
			}
			written, err := p.Written()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes of a file, %d written out, %d packed", len(c.file), len(written), len(packed))
			back, err := Unpack(packed)
			if err != nil || !reflect.DeepEqual(*back, p) {
				t.Errorf("it is another when unpacked: %v", err)
			}
		})
	}
}

// TestInputsMakeAPlanTooLarge has what no example shows: values of a starter.
func TestInputsMakeAPlanTooLarge(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{8})
	file, facts := "inputs:\n", onMain
	facts.Event, facts.Inputs = "manual", map[string]string{}
	for i := range maxInputs {
		raw := make([]byte, maxInputValue*3/4)
		_, _ = rng.Read(raw)
		name := fmt.Sprintf("i%d", i)
		file += "  " + name + ": {}\n"
		facts.Inputs[name] = base64.StdEncoding.EncodeToString(raw)
	}
	rest := make([]byte, 90<<10)
	_, _ = rng.Read(rest)
	f, err := Read("", []byte(file+"steps: [{command: "+base64.StdEncoding.EncodeToString(rest)+"}]\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Plan(facts)
	if err == nil || !strings.Contains(err.Error(), "packed for the cluster's log") {
		t.Fatalf("got %.300v", err)
	}
	checkErrors(t, err)
}

// TestUnpackHostile has what no node of this version packs.
func TestUnpackHostile(t *testing.T) {
	newer, err := cbor.Marshal(map[string]any{"name": "a", "shape": "round"})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"bomb": make([]byte, 100<<20), "no CBOR": []byte("\xff"), "newer": newer} {
		packed, err := squeeze(data)
		if err != nil {
			t.Fatal(err)
		}
		var unknown *cbor.UnknownFieldError
		if _, err := Unpack(packed); err == nil || errors.As(err, &unknown) != (name == "newer") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Unpack([]byte("garbage")); err == nil {
		t.Error("garbage was unpacked")
	}
}
