package sets

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"

	"culprit/internal/config"
	"culprit/internal/text"
)

// A Signed is a set as it travels: the bytes that were signed, and the signature of minisign over them.
type Signed struct {
	Set       []byte `json:"set"`
	Signature string `json:"signature"`
}

// maxSignature bounds a signature, in bytes: minisign's have some 300.
const maxSignature = 1 << 10

// MaxValue is the most that [Signed.Value] can have, in bytes.
const MaxValue = MaxBytes*4/3 + 2*maxSignature

// Sign signs a set, after it has found all that is wrong with it: then the error is a *[config.Error].
func Sign(s *Set, key minisign.PrivateKey) (Signed, error) {
	if wrong := s.check(); len(wrong) > 0 {
		return Signed{}, &config.Error{Path: "set " + s.Name, Problems: wrong}
	}
	doc, err := s.Encode()
	if err != nil {
		return Signed{}, err
	}
	trusted := fmt.Sprintf("culprit set %s version %d of the fleet %s", s.Name, s.Version, s.Fleet)
	signature := minisign.SignWithComments(key, doc, trusted, "signature of a culprit set, see `culprit fleet --help`")
	return Signed{Set: doc, Signature: string(signature)}, nil
}

// Value returns the set as it stands in the bucket of sets.
func (s Signed) Value() ([]byte, error) { return json.Marshal(s) }

// ReadValue is the reverse of [Signed.Value]. It verifies nothing.
func ReadValue(value []byte) (Signed, error) {
	var s Signed
	if len(value) > MaxValue {
		return s, fmt.Errorf("it has %d bytes, %d are allowed", len(value), MaxValue)
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return s, fmt.Errorf("it is no signed set: %w", err)
	}
	if len(s.Signature) > maxSignature {
		return s, fmt.Errorf("its signature has %d bytes, %d are allowed", len(s.Signature), maxSignature)
	}
	return s, nil
}

// Unverified reads the set without asking who has signed it: only to show it.
func (s Signed) Unverified() (*Set, error) { return decode(s.Set) }

// A Trust says which sets a host believes.
type Trust struct {
	Fleet string
	Host  string
	Keys  []minisign.PublicKey
}

// ParseKeys reads the public keys of a configuration (fleet.keys). Its problems have that key.
func ParseKeys(keys []string) (all []minisign.PublicKey, wrong []config.Problem) {
	for i, k := range keys {
		var key minisign.PublicKey
		if err := key.UnmarshalText([]byte(strings.TrimSpace(k))); err != nil {
			wrong = append(wrong, config.Problem{
				Key:  fmt.Sprintf("fleet.keys[%d]", i),
				Text: fmt.Sprintf("%q is not a public key of minisign: %s; `culprit fleet keygen` prints one, it begins with RW", k, strings.TrimPrefix(err.Error(), "minisign: ")),
			})
			continue
		}
		all = append(all, key)
	}
	return all, wrong
}

// KeyID names a key as minisign does.
func KeyID(id uint64) string { return fmt.Sprintf("%016X", id) }

// Verify reads a set that stands under a name, if one of the keys has signed it for this fleet under that name, and if its rules can
// work. Whether it is new, accepted and for this host is for a [Book] to say. The error is a *[Refusal].
func (t Trust) Verify(name string, s Signed) (*Set, error) {
	var signature minisign.Signature
	if err := signature.UnmarshalText([]byte(s.Signature)); err != nil {
		return nil, refuse(CodeForged, "it has no signature of minisign")
	}
	// First who wrote it, then what it says: nothing of others is read.
	if err := t.signedBy(s, signature.KeyID); err != nil {
		return nil, err
	}
	set, err := decode(s.Set)
	if err != nil {
		return nil, refuse(CodeFormat, "%v", err)
	}
	switch {
	case set.Fleet != t.Fleet:
		return nil, refuse(CodeFleet, "it is for the fleet %q, this host is in %q", text.Clip(set.Fleet, 64), t.Fleet)
	case set.Name != name:
		return nil, refuse(CodeName, "it was signed as %q, and somebody has put it in the place of %q", text.Clip(set.Name, 64), text.Clip(name, 64))
	}
	if wrong := set.check(); len(wrong) > 0 {
		return nil, refuse(CodeMistakes, "%s", listed(wrong))
	}
	return set, nil
}

func (t Trust) signedBy(s Signed, id uint64) error {
	known := false
	for _, key := range t.Keys {
		if key.ID() != id {
			continue
		}
		known = true
		if minisign.Verify(key, s.Set, []byte(s.Signature)) {
			return nil
		}
	}
	if known {
		return refuse(CodeForged, "the key %s has not signed this: it was changed", KeyID(id))
	}
	return refuse(CodeForged, "the key %s, which has signed it, is not one of fleet.keys", KeyID(id))
}

// listed writes problems in one line.
func listed(all []config.Problem) string {
	var lines []error
	for _, p := range all {
		lines = append(lines, fmt.Errorf("%s: %s", p.Key, p.Text))
	}
	return strings.ReplaceAll(errors.Join(lines...).Error(), "\n", "; ")
}
