package bucket

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	// The four kinds of bucket, by the scheme of their URL.
	_ "gocloud.dev/blob/azureblob"
	_ "gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
)

// Schemes are those of the URLs that name buckets.
var Schemes = []string{"s3", "gs", "azblob", "file"}

// address is a bucket's URL, checked.
type address struct {
	open   string // what the driver is given
	given  string // what the operator gave
	query  string // of given, raw
	shown  string // what may be shown: without the query
	folder bool   // it is a file system's
}

// Validate says what is wrong with a bucket's URL, as far as that can be told without
// asking anybody. The error shows no query and no credential.
func Validate(raw string) error {
	_, err := parse(raw)
	return err
}

func parse(raw string) (address, error) {
	u, err := url.Parse(raw)
	if err != nil { // which quotes the URL, and so what may be a secret in it
		return address{}, errors.New("it is no URL: want such as s3://BUCKET?region=REGION")
	}
	a := address{given: raw, query: u.RawQuery, shown: (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()}
	switch {
	case u.User != nil:
		return a, errors.New("a user or password stands in it: credentials come from the environment, or from where the provider's own tools have them")
	case !slices.Contains(Schemes, u.Scheme):
		return a, fmt.Errorf("unknown scheme %q: want s3://, gs://, azblob:// or file://", u.Scheme)
	case u.Fragment != "":
		return a, fmt.Errorf("%s: what follows the # means nothing", a.shown)
	case u.Scheme == "file" && (u.Host != "" || !path.IsAbs(u.Path)):
		return a, errors.New("want file:///FOLDER with the folder's whole path")
	case u.Scheme != "file" && (u.Host == "" || strings.Trim(u.Path, "/") != ""):
		return a, fmt.Errorf("want %s://BUCKET; a folder in it is given as ?prefix=FOLDER/", u.Scheme)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, fmt.Errorf("%s: what follows the ? can't be read", a.shown)
	}
	if prefix := q.Get("prefix"); prefix != "" && !strings.HasSuffix(prefix, "/") {
		return a, fmt.Errorf("%s: prefix %q: want a / at its end", a.shown, prefix)
	}
	if u.Scheme == "s3" && !q.Has("response_checksum_validation") {
		// What is read is compared with its name anyhow, and the driver says of every answer
		// of a store that has none of its checksums that it has none.
		q.Set("response_checksum_validation", "when_required")
		u.RawQuery = q.Encode()
	}
	if u.Scheme == "file" {
		a.folder = true
		// The folder of temporary files may lie on another disk, and what is known of a
		// blob is its name.
		q.Set("no_tmp_dir", "true")
		q.Set("metadata", "skip")
		u.RawQuery = q.Encode()
	}
	a.open = u.String()
	return a, nil
}

// clean takes the URL's query out of a driver's error.
func (a address) clean(err error) error {
	text := err.Error()
	for _, hide := range []struct{ what, by string }{{a.given, a.shown}, {a.open, a.shown}, {a.query, "…"}} {
		if hide.what != "" {
			text = strings.ReplaceAll(text, hide.what, hide.by)
		}
	}
	return cleaned{text, err}
}

// cleaned is an error with another text.
type cleaned struct {
	text string
	err  error
}

func (c cleaned) Error() string { return c.text }

func (c cleaned) Unwrap() error { return c.err }
