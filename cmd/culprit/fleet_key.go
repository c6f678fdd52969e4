package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"aead.dev/minisign"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"culprit/internal/text"
)

// passwordVariable has the password of a key where nobody can type it.
const passwordVariable = "CULPRIT_FLEET_PASSWORD"

func newFleetKeygen() *cobra.Command {
	var open bool
	cmd := &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key that signs sets of rules and lists",
		Long: `Make a key that signs sets of rules and lists. FILE gets the secret key, FILE.pub the public
one, which goes into fleet.keys of the hosts. Both are keys of minisign.

Who has the secret key decides what all hosts look for. Keep it off the servers of the fleet
and off the hosts. It is encrypted with a password; where nobody can type that, culprit takes
it from ` + passwordVariable + `.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, secret, err := minisign.GenerateKey(rand.Reader)
			if err != nil {
				return fmt.Errorf("make a key: %w", err)
			}
			var doc []byte
			if open {
				doc, err = secret.MarshalText()
			} else {
				var password string
				if password, err = newPassword(); err == nil {
					doc, err = minisign.EncryptKey(password, secret)
				}
			}
			if err != nil {
				return err
			}
			line, err := public.MarshalText()
			if err != nil {
				return fmt.Errorf("make a key: %w", err)
			}
			if err := writeNew(args[0], append(doc, '\n'), 0o600); err != nil {
				return err
			}
			if err := writeNew(args[0]+".pub", append(line, '\n'), 0o644); err != nil {
				return errors.Join(err, os.Remove(args[0]))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s signs sets; keep it secret.\nFor the configuration of the hosts:\n\n  fleet:\n    accept: [rules, lists]\n    keys: [%s]\n", text.Escape(args[0]), public)
			return nil
		},
	}
	cmd.Flags().BoolVar(&open, "no-password", false, "do not encrypt the secret key: who can read the file can sign")
	return cmd
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, doc []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	_, err = f.Write(doc)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}

// signingKey reads a secret key, and asks for its password if it has one.
func signingKey(path string) (minisign.PrivateKey, error) {
	var key minisign.PrivateKey
	if path == "" {
		return key, usageError{errors.New("give the key that signs: --key FILE (`culprit fleet keygen` makes one)")}
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("read the key: %w", err)
	}
	doc = []byte(strings.TrimSpace(string(doc)))
	if !minisign.IsEncrypted(doc) {
		if err := key.UnmarshalText(doc); err != nil {
			return key, fmt.Errorf("read the key %s: %w: give the secret key, not the .pub file", path, err)
		}
		return key, nil
	}
	password, err := askPassword("Password of " + path + ": ")
	if err != nil {
		return key, err
	}
	if key, err = minisign.DecryptKey(password, doc); err != nil {
		return key, fmt.Errorf("read the key %s: the password is wrong", path)
	}
	return key, nil
}

func newPassword() (string, error) {
	if p, set := os.LookupEnv(passwordVariable); set && p != "" {
		return p, nil
	}
	first, err := askPassword("New password: ")
	if err != nil {
		return "", err
	}
	second, err := askPassword("The same again: ")
	switch {
	case err != nil:
		return "", err
	case first == "":
		return "", errors.New("the password is empty: for a key without one, give --no-password")
	case first != second:
		return "", errors.New("the passwords differ: try again")
	}
	return first, nil
}

// askPassword asks on the terminal, even if the output goes elsewhere.
func askPassword(prompt string) (string, error) {
	if p := os.Getenv(passwordVariable); p != "" {
		return p, nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("there is no terminal to type the password on: set %s", passwordVariable)
	}
	defer tty.Close()
	fmt.Fprint(tty, text.Escape(prompt))
	p, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(p), nil
}
