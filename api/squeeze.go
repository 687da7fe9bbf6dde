package api

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// squeezed is an answer under gzip.
type squeezed struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (s squeezed) Write(data []byte) (int, error) { return s.z.Write(data) }

// squeeze has an answer go out under gzip where the client takes it: the page of a long
// log has megabytes. The answer is whole only once end has been called. It is not for
// what holds a secret beside text of others', which its length would tell of.
func squeeze(w http.ResponseWriter, r *http.Request) (out http.ResponseWriter, end func() error) {
	w.Header().Add("Vary", "Accept-Encoding")
	if !takesGzip(r.Header.Get("Accept-Encoding")) {
		return w, func() error { return nil }
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return w, func() error { return nil } // there is no such level, and the answer needs none
	}
	w.Header().Set("Content-Encoding", "gzip")
	return squeezed{w, z}, z.Close
}

func takesGzip(accepts string) bool {
	for _, one := range strings.Split(accepts, ",") {
		name, how, _ := strings.Cut(one, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			quality := strings.TrimSpace(how)
			return quality == "" || strings.Trim(quality, "q=0. ") != "" // RFC 9110, 12.4.2: 0 is a refusal
		}
	}
	return false
}
