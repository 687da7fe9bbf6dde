// Package archive owns the form in which a job's files outlive it: a tar under
// zstd, of a cache's paths or of artifacts. It packs (Pack), unpacks (Unpack) and
// looks into archives (List, Open). Where archives are kept is not its business.
//
// An entry's name says where it lies, as the file that asked for it does:
// "dist/app" below the workspace, "/go/pkg/mod/x" from the root, "~/.m2/x" in the
// home of whoever unpacks, which need not be the home of whoever packed. A file of
// the workspace whose path begins with ~ has "./" before it.
//
// Invariants: packing follows no link, and the same files give the same bytes.
// Unpacking writes nothing outside the places that its caller names, whatever the
// archive says, and through no link that came with it. Owners are not kept, nor
// are bits beyond 0777.
//
// Start reading at Pack and Unpack; place.go has the names.
package archive
