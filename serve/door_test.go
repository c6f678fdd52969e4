package serve

import (
	"crypto/x509"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"
)

// Whoever has no token sees nothing, and who calls us by a name that is not ours gets no answer.
func TestDoor(t *testing.T) {
	t.Parallel()
	s, dir := store(t)
	s.Hit(hitOf("x.badzone.test"))
	at, _ := start(t, dir, "127.0.0.1:0")
	shows(t, at, "x.badzone.test")
	for what, c := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"no token":        {func(*http.Request) {}, http.StatusUnauthorized},
		"a wrong token":   {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, http.StatusUnauthorized},
		"an empty token":  {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, http.StatusUnauthorized},
		"a wrong cookie":  {func(r *http.Request) { r.Header.Set("Cookie", "culprit="+token) }, http.StatusUnauthorized},
		"the token":       {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }, http.StatusOK},
		"POST":            {func(r *http.Request) { r.Method = http.MethodPost; r.Header.Set("Authorization", "Bearer "+token) }, http.StatusMethodNotAllowed},
		"rebinding":       {func(r *http.Request) { r.Host = "evil.example"; r.Header.Set("Authorization", "Bearer "+token) }, http.StatusMisdirectedRequest},
		"rebinding, port": {func(r *http.Request) { r.Host = "evil.example:9358"; r.Header.Set("Authorization", "Bearer "+token) }, http.StatusMisdirectedRequest},
		"no host": {func(r *http.Request) {
			r.Host = "127.0.0.1.evil.example"
			r.Header.Set("Authorization", "Bearer "+token)
		}, http.StatusMisdirectedRequest},
		"localhost": {func(r *http.Request) { r.Host = "localhost:1"; r.Header.Set("Authorization", "Bearer "+token) }, http.StatusOK},
		"IPv6":      {func(r *http.Request) { r.Host = "[::1]:1"; r.Header.Set("Authorization", "Bearer "+token) }, http.StatusOK},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.change(r)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", what, answer.Status, c.want)
		}
		for _, header := range []string{"Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "Cache-Control"} {
			if answer.Header.Get(header) == "" {
				t.Errorf("%s: no %s", what, header)
			}
		}
		if policy := answer.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", what, policy)
		}
	}
}

// Logging in takes the token out of the address, and the cookie is not the token.
func TestLogin(t *testing.T) {
	t.Parallel()
	_, dir := store(t)
	at, _ := start(t, dir, "127.0.0.1:0")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	for _, c := range []struct {
		path string
		want int
	}{{"/login", 401}, {"/login?token=x", 401}, {"/", 401}, {"/login?token=" + token, 200}, {"/", 200}} {
		answer, err := client.Get(at + c.path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", c.path, answer.Status, c.want)
		}
		if strings.Contains(answer.Request.URL.String(), token) {
			t.Errorf("the token stays in the address %s", answer.Request.URL)
		}
		for _, cookie := range jar.Cookies(answer.Request.URL) {
			if cookie.Value == token {
				t.Error("the cookie is the token")
			}
		}
	}
}

// A certificate lets in until it expires, also on a connection that began before.
func TestExpiredMeanwhile(t *testing.T) {
	t.Parallel()
	now := time.Now()
	chain := []*x509.Certificate{{NotAfter: now.Add(time.Minute)}, {NotAfter: now.Add(time.Hour)}}
	for _, c := range []struct {
		at     time.Time
		chains [][]*x509.Certificate
		want   bool
	}{{now, nil, false}, {now, [][]*x509.Certificate{chain}, true}, {now.Add(2 * time.Minute), [][]*x509.Certificate{chain}, false}} {
		if got := isValid(c.chains, c.at); got != c.want {
			t.Errorf("after %s it is %t, want %t", c.at.Sub(now), got, c.want)
		}
	}
}
