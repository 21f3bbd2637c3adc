// Package cache keeps account of computed KV. It is pure: no clock, no memory of
// its own, no network.
//
// A page is the KV of some consecutive tokens, and its Address is a hash of all
// tokens up to its end and of everything else that the KV depends on. So a page can
// be looked up by whoever has the same tokens, and by nobody else: another request,
// the same conversation's next turn, another process. A prompt's chain is the list
// of its pages' addresses, each of which names the one before it.
//
// Host is the account of one block of memory that holds pages: which page of memory
// holds which address, and which goes when room is wanted. A page whose follower is
// there stays, since without it nobody would find the follower. Which of the others
// goes is a Policy's to say; package store has one.
//
// Several engines may read and write that memory at once; a plan is made before it is
// run, so between the two the account promises what the memory does not hold yet. Each
// engine has a View, which keeps what is promised to its running step apart: what that
// reads cannot go, and what it writes is nobody else's until it is there. So one
// engine's death takes nothing from another, and Host needs no lock of its own: whoever
// shares it lets one View act at a time, for as long as a plan is made.
package cache
