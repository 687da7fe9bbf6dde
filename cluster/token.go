package cluster

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// A join token is "NWL1-" + the digest of the cluster's CA + "-" + a secret. The
// digest lets a newcomer know the cluster before it shows the secret.
const (
	tokenPrefix = "NWL1"
	digestSize  = 16 // bytes of the CA certificate's SHA-256
	secretSize  = 16 // bytes
)

var tokenText = base32.StdEncoding.WithPadding(base32.NoPadding)

type token struct {
	digest [digestSize]byte
	secret []byte
}

func (t token) String() string {
	return tokenPrefix + "-" + strings.ToLower(tokenText.EncodeToString(t.digest[:])+"-"+tokenText.EncodeToString(t.secret))
}

func parseToken(text string) (token, error) {
	parts := strings.Split(strings.TrimSpace(text), "-")
	if len(parts) != 3 || parts[0] != tokenPrefix {
		return token{}, fmt.Errorf("%w: want the text that the first node printed, %s-…-…", ErrToken, tokenPrefix)
	}
	digest, errD := tokenText.DecodeString(strings.ToUpper(parts[1]))
	secret, errS := tokenText.DecodeString(strings.ToUpper(parts[2]))
	if errD != nil || errS != nil || len(digest) != digestSize || len(secret) != secretSize {
		return token{}, fmt.Errorf("%w: it is cut off or mistyped", ErrToken)
	}
	return token{digest: [digestSize]byte(digest), secret: secret}, nil
}

// caDigest is what a token knows a cluster by.
func caDigest(caDER []byte) [digestSize]byte {
	sum := sha256.Sum256(caDER)
	return [digestSize]byte(sum[:digestSize])
}
