// Reads a dashboard as Grafana's own types have it. Prints every field that is unknown, missing or of another type, and fails then.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	raw, err := os.ReadFile(os.Args[1])
	if err == nil {
		plugins.RegisterDefaultPlugins()
		read := dashboard.Dashboard{}
		err = read.UnmarshalJSONStrict(raw)
		// Without faults this is an empty list of them, not nil.
		if err == nil || err.Error() == "" {
			err = read.Validate()
		}
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
