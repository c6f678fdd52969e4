package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"
)

// A User of the servers, with the public part of its NKey and what it may do.
type User struct {
	Name               string
	Key                string
	Publish, Subscribe []string
}

// Operator is the user who sets a fleet up, and publishes signed sets. It may do everything.
func (n Name) Operator() User {
	return User{Name: "operator", Publish: []string{">"}, Subscribe: []string{">"}}
}

// Reader is the user of those who look: it reads everything, and asks for bundles.
func (n Name) Reader() User {
	u := User{
		Name: "reader",
		Publish: []string{
			"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.DIRECT.GET.>",
			n.Requests().Subject(">"),
		},
		Subscribe: []string{"_INBOX.>", n.Subjects(), n.Hosts().Subject(">"), n.Sets().Subject(">")},
	}
	for _, stream := range []string{n.Stream(), n.Hosts().Stream(), n.Sets().Stream(), n.Requests().Stream()} {
		u.Publish = append(u.Publish, "$JS.API.CONSUMER.CREATE."+stream+".>", "$JS.API.CONSUMER.INFO."+stream+".>",
			"$JS.API.CONSUMER.DELETE."+stream+".>", "$JS.API.CONSUMER.MSG.NEXT."+stream+".>", "$JS.ACK."+stream+".>", "$JS.FC."+stream+".>")
	}
	return u
}

// HostUser is the user of a host. It can write only what is its own, and make no consumers: their messages could go to the
// subject of another host.
func (n Name) HostUser(host string) User {
	token := Token(host)
	get := func(stream string) string { return "$JS.API.DIRECT.GET." + stream }
	bundles, requests := "OBJ_"+n.Bundles(host), n.Requests().Stream()
	return User{
		Name: host,
		Publish: []string{
			n.Subject(host), get(n.Stream() + "." + n.Subject(host)),
			n.Hosts().Subject(token), get(n.Hosts().Stream() + "." + n.Hosts().Subject(token)),
			get(n.Sets().Stream()), get(n.Sets().Stream() + ".>"),
			get("OBJ_" + n.Lists()), get("OBJ_" + n.Lists() + ".>"),
			"$O." + n.Bundles(host) + ".C.>", "$O." + n.Bundles(host) + ".M.>",
			"$JS.API.STREAM.INFO." + bundles, get(bundles), get(bundles + ".>"),
			"$JS.API.CONSUMER.INFO." + requests + "." + token, "$JS.API.CONSUMER.MSG.NEXT." + requests + "." + token,
			"$JS.ACK." + requests + "." + token + ".>",
		},
		Subscribe: []string{n.Inbox(host) + ".>", n.Sets().Subject(">")},
	}
}

// Keys gives each user an NKey: the seed is kept in dir as NAME.nk, which only its owner can read. Those that are there
// stay. It returns the users with their public keys, and the files that are new.
func Keys(dir string, users []User) (made []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the keys: %w", err)
	}
	for i := range users {
		path := filepath.Join(dir, users[i].Name+".nk")
		seed, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			if seed, err = newSeed(path); err == nil {
				made = append(made, path)
			}
		}
		if err != nil {
			return made, fmt.Errorf("make the key of %s: %w", users[i].Name, err)
		}
		pair, err := nkeys.ParseDecoratedUserNKey(seed)
		if err == nil {
			users[i].Key, err = pair.PublicKey()
		}
		if err != nil {
			return made, fmt.Errorf("read the key of %s in %s: %w", users[i].Name, path, err)
		}
	}
	return made, nil
}

func newSeed(path string) ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, "%s\n", seed)
	return seed, errors.Join(err, f.Close())
}

// ServerConfig writes the account of a fleet for the configuration of nats-server.
func (n Name) ServerConfig(users []User) string {
	var b strings.Builder
	fmt.Fprintf(&b, "accounts {\n  %q: {\n    jetstream: enabled\n    users: [\n", "culprit-"+string(n))
	for _, u := range users {
		fmt.Fprintf(&b, "      { # %s\n        nkey: %s\n        permissions: {\n          publish: { allow: [%s] }\n          subscribe: { allow: [%s] }\n        }\n      }\n",
			u.Name, u.Key, quoted(u.Publish), quoted(u.Subscribe))
	}
	b.WriteString("    ]\n  }\n}\n")
	return b.String()
}

// quoted writes texts as a list of nats-server's configuration, one a line if there are several.
func quoted(all []string) string {
	if len(all) == 1 {
		return fmt.Sprintf("%q", all[0])
	}
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "\n            %q", s)
	}
	return b.String() + "\n          "
}
