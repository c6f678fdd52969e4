package serve

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Door decides who may come in.
type Door struct {
	// Token is what a browser must show. Without one everybody may come in who can use the listener: only
	// root can use its socket.
	Token string
	// Secure has our certificate, whose names a browser may call us by; nil without TLS.
	Secure *Secure
}

// policy lets a page have what we serve with it, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard is before every page.
func (d *Door) guard(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if d.Secure != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this server only shows: GET and HEAD", http.StatusMethodNotAllowed)
		case !d.knows(r.Host):
			// A page of somebody else's whose name now means our address (DNS rebinding).
			http.Error(w, "this server is not called so: use its address, localhost, or a name of its certificate", http.StatusMisdirectedRequest)
		case r.URL.Path == "/login":
			d.login(w, r)
		case !d.admits(r):
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(loginPage))
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// knows reports whether a Host header means us. No foreign name can mean an address or localhost.
func (d *Door) knows(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil || strings.EqualFold(name, "localhost") {
		return true
	}
	return d.Secure != nil && d.Secure.certificate().VerifyHostname(name) == nil
}

// admits reports whether a request shows the token, the cookie that login gave for it, or a certificate
// that TLS has verified.
func (d *Door) admits(r *http.Request) bool {
	if d.Token == "" || r.TLS != nil && isValid(r.TLS.VerifiedChains, time.Now()) {
		return true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return d.isToken(token)
	}
	c, err := r.Cookie(cookieName)
	return err == nil && subtle.ConstantTimeCompare([]byte(c.Value), []byte(d.cookie())) == 1
}

// isValid reports whether a certificate that was verified when its connection began has not expired since.
func isValid(chains [][]*x509.Certificate, now time.Time) bool {
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	})
}

func (d *Door) isToken(s string) bool {
	given, want := sha256.Sum256([]byte(s)), sha256.Sum256([]byte(d.Token))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

const cookieName = "culprit"

// cookie is what stands for the token in a browser: who reads it there does not have the token.
func (d *Door) cookie() string {
	mac := hmac.New(sha256.New, []byte(d.Token))
	mac.Write([]byte("cookie"))
	return hex.EncodeToString(mac.Sum(nil))
}

// login exchanges the token in the address for a cookie, and takes it out of the address.
func (d *Door) login(w http.ResponseWriter, r *http.Request) {
	if d.Token == "" || !d.isToken(r.URL.Query().Get("token")) {
		w.WriteHeader(http.StatusUnauthorized)
		w.Write([]byte(loginPage))
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: d.cookie(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

const loginPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"><title>culprit: log in</title></head>
<body><main><h1>culprit</h1><form action="/login"><label>Token, as <code>culprit serve</code> printed it, or of serve.token_file: <input type="password" name="token" required autofocus autocomplete="current-password"></label> <button>Log in</button></form></main></body></html>
`

// NewToken makes a token of 128 bits.
func NewToken() string { return rand.Text() }
