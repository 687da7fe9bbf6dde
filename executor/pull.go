package executor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
)

// pullTimeout bounds one pull.
const pullTimeout = 30 * time.Minute

// authHeader is how the engine takes credentials for one request. It keeps none.
func authHeader(c Credentials, host string) string {
	data, err := json.Marshal(registry.AuthConfig{Username: c.Username, Password: c.Password, ServerAddress: host})
	if err != nil {
		return "" // of three strings: it can't
	}
	return base64.URLEncoding.EncodeToString(data)
}

// pull pulls the image and tells of it in the attempt's log, once a second at
// most.
func (d *Docker) pull(ctx context.Context, t Task, name string, options image.PullOptions) error {
	stream, err := d.api.ImagePull(ctx, name, options)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	var (
		in     = json.NewDecoder(stream)
		layers = make(map[string]layer)
		told   = time.Now()
	)
	for {
		var m pullMessage
		err := in.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's answer: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		case m.Status == "Downloading" && m.Detail.Total > 0:
			layers[m.ID] = m.Detail
		}
		if time.Since(told) >= time.Second && len(layers) > 0 {
			told = time.Now()
			t.say(d.cfg.LogLimit, "%s", progress(layers))
		}
	}
}

// pullMessage is a line of the engine's answer.
type pullMessage struct {
	Status string `json:"status"`
	ID     string `json:"id"`
	Error  string `json:"error"`
	Detail layer  `json:"progressDetail"`
}

type layer struct {
	Current int64 `json:"current"` // bytes
	Total   int64 `json:"total"`
}

func progress(layers map[string]layer) string {
	var sum layer
	for _, l := range layers {
		sum.Current += l.Current
		sum.Total += l.Total
	}
	return fmt.Sprintf("pulling: %s of %s in %d layers", bytesText(sum.Current), bytesText(sum.Total), len(layers))
}
