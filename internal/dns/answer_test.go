package dns

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// message makes an answer to a question for the addresses of x.badzone.test.
func message(t testing.TB, header dnsmessage.Header, records ...dnsmessage.Resource) []byte {
	t.Helper()
	header.ID, header.Response = 7, true
	m := dnsmessage.Message{
		Header:    header,
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("x.BADZONE.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers:   records,
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(name string, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 60}, Body: body}
}

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	a := record("x.badzone.test.", &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}})
	alias := record("x.badzone.test.", &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("y.example.")})
	again := record("y.example.", &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("x.badzone.test.")})
	of := record("Y.example.", &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}})
	other := record("other.example.", &dnsmessage.AResource{A: [4]byte{192, 0, 2, 9}})
	whole := message(t, dnsmessage.Header{}, alias, of, other)
	many := make([]dnsmessage.Resource, maxRecords+3)
	for i := range many {
		many[i] = a
	}
	ofOne := message(t, dnsmessage.Header{}, a)
	short := append([]byte(nil), ofOne...)
	short[len(short)-5] = 3 // an A record of three bytes
	for name, tt := range map[string]struct {
		in   []byte
		want string
	}{
		"an address":       {ofOne, "NOERROR [192.0.2.7] A 192.0.2.7"},
		"an alias":         {whole, "NOERROR [2001:db8::1] CNAME y.example, AAAA 2001:db8::1, A 192.0.2.9"},
		"a loop":           {message(t, dnsmessage.Header{}, alias, again), "NOERROR [] CNAME y.example, CNAME x.badzone.test"},
		"no such name":     {message(t, dnsmessage.Header{RCode: dnsmessage.RCodeNameError}), "NXDOMAIN [] "},
		"no such record":   {message(t, dnsmessage.Header{}), "NOERROR [] "},
		"truncated":        {message(t, dnsmessage.Header{Truncated: true}), "NOERROR [] , truncated"},
		"cut in a record":  {whole[:len(whole)-20], "NOERROR [2001:db8::1] CNAME y.example, AAAA 2001:db8::1, 1 missing"},
		"too many records": {message(t, dnsmessage.Header{}, many...), "NOERROR " + fmt.Sprint(strings.Fields(strings.Repeat("192.0.2.7 ", maxRecords))) + " " + strings.Repeat("A 192.0.2.7, ", maxRecords) + "3 missing"},
		"a short address":  {short[:len(short)-1], `NOERROR [] A \# 3 c00002`},
		"text":             {message(t, dnsmessage.Header{}, record("x.badzone.test.", &dnsmessage.TXTResource{TXT: []string{"a \"b\"\n", "c"}})), `NOERROR [] TXT "a \"b\"\010" "c"`},
		"mail":             {message(t, dnsmessage.Header{}, record("x.badzone.test.", &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("m.test.")})), "NOERROR [] MX 10 m.test"},
		"an unknown type":  {message(t, dnsmessage.Header{}, record("x.badzone.test.", &dnsmessage.UnknownResource{Type: 65280, Data: []byte{1, 2}})), `NOERROR [] TYPE65280 \# 2 0102`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, ok := ReadAnswer(tt.in)
			if !ok || a.ID != 7 || a.Question != (Question{"x.badzone.test", "A", "IN"}) {
				t.Fatalf("%v %+v", ok, a)
			}
			var records []string
			for _, r := range a.Records {
				records = append(records, r.Type+" "+r.Data)
			}
			got := fmt.Sprint(a.Code, " ", a.Addresses(), " ", strings.Join(records, ", "))
			if a.Truncated {
				got += ", truncated"
			}
			if a.Missing > 0 {
				got += fmt.Sprintf(", %d missing", a.Missing)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	question := append([]byte(nil), ofOne...)
	question[2] &^= IsAnswer
	for name, in := range map[string][]byte{"nothing": nil, "a header": ofOne[:12], "cut in the question": ofOne[:20], "a question": question} {
		if a, ok := ReadAnswer(in); ok {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if q, ok := ReadQuestion(question); !ok || q.Name != "x.badzone.test" {
		t.Errorf("the question is %+v, %v", q, ok)
	}
}

// Whatever comes is read, and what dnsmessage reads, we read as it does.
func FuzzReadAnswer(f *testing.F) {
	f.Add(message(f, dnsmessage.Header{}, record("x.badzone.test.", &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}})))
	f.Add(message(f, dnsmessage.Header{}, record("x.badzone.test.", &dnsmessage.TXTResource{TXT: []string{"a", ""}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, ok := ReadAnswer(b)
		ours.Addresses()
		var m dnsmessage.Message
		if !ok || m.Unpack(b) != nil {
			return
		}
		for i, r := range ours.Records {
			if a, is := m.Answers[i].Body.(*dnsmessage.AResource); is && r.Address.IsValid() && r.Data != fmt.Sprintf("%d.%d.%d.%d", a.A[0], a.A[1], a.A[2], a.A[3]) {
				t.Errorf("record %d is %+v, dnsmessage reads %v", i, r, a)
			}
		}
	})
}
