// Package tune finds out which type a model's weights are best stored as on this
// machine. It quantises the source to each type, measures in alternating rounds how
// fast each file reads prompts and writes answers, compares each with the source on
// a text, and says which is best for speed, for quality, and by default.
//
// The text (text.txt) is this project's own: prose, talk, code in four languages,
// tables, reasoning. It is short, so what it yields is for comparing files of one
// model, not models. The loss is measured against the source as it is: where that is
// quantised itself, what was lost before does not count, and no type can be better
// than it.
//
// By default is the fastest file whose loss stays within Bounds; what is meant by
// that is written there.
package tune
