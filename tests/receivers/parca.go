//go:build ignore

// Prints the CPU time that a Parca on this machine holds, by the label http_route: {"/route": nanoseconds}.
// Built inside Parca's own module, whose client it uses.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	query "github.com/parca-dev/parca/gen/proto/go/parca/query/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const route = "pprof_labels.http_route"

func main() {
	connection, err := grpc.Dial("127.0.0.1:7070", grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	now := time.Now()
	answer, err := query.NewQueryServiceClient(connection).Query(context.Background(), &query.QueryRequest{
		Mode: query.QueryRequest_MODE_MERGE,
		Options: &query.QueryRequest_Merge{Merge: &query.MergeProfile{
			Query: "process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta{}",
			Start: timestamppb.New(now.Add(-10 * time.Minute)),
			End:   timestamppb.New(now),
		}},
		ReportType: query.QueryRequest_REPORT_TYPE_FLAMEGRAPH_ARROW,
		GroupBy:    &query.GroupBy{Fields: []string{"labels"}},
	})
	check(err)
	reader, err := ipc.NewReader(bytes.NewReader(answer.GetFlamegraphArrow().Record))
	check(err)
	held := map[string]int64{}
	for reader.Next() {
		record := reader.Record()
		columns := map[string]int{}
		for index, field := range record.Schema().Fields() {
			columns[field.Name] = index
		}
		at, ok := columns[route]
		if !ok {
			continue
		}
		routes := record.Column(at).(*array.Dictionary)
		names := routes.Dictionary().(*array.Binary)
		// Below the root there is a row for each set of labels, then the functions.
		only := record.Column(columns["labels_only"]).(*array.Boolean)
		for row := 0; row < int(record.NumRows()); row++ {
			if only.Value(row) && !routes.IsNull(row) {
				var ns int64
				check(json.Unmarshal([]byte(record.Column(columns["cumulative"]).ValueStr(row)), &ns))
				held[names.ValueString(routes.GetValueIndex(row))] += ns
			}
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(held))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
