package api

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed pages/assets
var assetFiles embed.FS

// assetPrefix is where the pages' style sheet and scripts lie. They say nothing that
// is not in the source, and the page to sign in needs them: nobody has to be signed in.
const assetPrefix = "/assets/"

// assets are what pages load beside themselves. Their URLs hold a hash of all of them,
// so a browser keeps them for as long as they are the same, and modules find each
// other by their names.
type assets struct {
	files fs.FS
	hash  string
}

func readAssets() (assets, error) {
	files, err := fs.Sub(assetFiles, "pages/assets")
	if err != nil {
		return assets{}, fmt.Errorf("read assets: %w", err)
	}
	sum := sha256.New()
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
		return err
	})
	if err != nil {
		return assets{}, fmt.Errorf("read assets: %w", err)
	}
	return assets{files, hex.EncodeToString(sum.Sum(nil)[:8])}, nil
}

// url is an asset's address by its name.
func (a assets) url(name string) string { return assetPrefix + a.hash + "/" + name }

// ServeHTTP serves an asset whatever hash it is asked for with: while nodes are
// upgraded, one's pages may load their assets from another. Only what is asked for by
// its own hash may be kept.
func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, assetPrefix), "/")
	if info, err := fs.Stat(a.files, name); err != nil || info.IsDir() {
		problem(http.StatusNotFound, CodeNotFound, "there is no asset %q", name).write(w)
		return
	}
	if hash == a.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeFileFS(w, r, a.files, name)
}
