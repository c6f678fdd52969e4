package grep

import (
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// mostLiterals bounds the texts that are searched for at once: each takes another pass.
const mostLiterals = 8

// literals returns texts such that every match of the expression contains one of them, or nil if
// there are no such texts. With fold they are in lower case, and a match contains one in any case.
// A search is fast because a line without these texts never reaches the expression.
func literals(re *syntax.Regexp) (texts []string, fold bool) {
	// All texts are searched for in the same way: if any part ignores case, all do.
	re = re.Simplify()
	fold = folds(re)
	return required(re, fold), fold
}

func folds(re *syntax.Regexp) bool {
	if re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase != 0 {
		return true
	}
	for _, sub := range re.Sub {
		if folds(sub) {
			return true
		}
	}
	return false
}

func required(re *syntax.Regexp, fold bool) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if text := longest(re.Rune, fold); text != "" {
			return []string{text}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0], fold)
	case syntax.OpConcat: // the best of its parts
		var best []string
		for _, sub := range re.Sub {
			if texts := required(sub, fold); shortest(texts) > shortest(best) {
				best = texts
			}
		}
		return best
	case syntax.OpAlternate: // all of its parts
		var all []string
		for _, sub := range re.Sub {
			texts := required(sub, fold)
			if texts == nil || len(all)+len(texts) > mostLiterals {
				return nil
			}
			all = append(all, texts...)
		}
		return all
	}
	return nil
}

// longest returns the longest part of a text that can be searched for byte by byte. Where case is
// ignored, that excludes all but ASCII, and letters that have other forms: K is also the Kelvin
// sign.
func longest(text []rune, fold bool) string {
	var best, piece []rune
	for _, r := range text {
		if r == utf8.RuneError || fold && !foldsPlainly(r) {
			piece = nil
			continue
		}
		if fold {
			r = unicode.ToLower(r)
		}
		if piece = append(piece, r); len(piece) > len(best) {
			best = piece
		}
	}
	return string(best)
}

func foldsPlainly(r rune) bool {
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		if other > unicode.MaxASCII {
			return false
		}
	}
	return r <= unicode.MaxASCII
}

// shortest returns the length of the shortest text, 0 if there is none.
func shortest(texts []string) int {
	least := 0
	for i, t := range texts {
		if i == 0 || len(t) < least {
			least = len(t)
		}
	}
	return least
}
