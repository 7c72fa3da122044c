module github.com/sluice-edge/sluice/bench

go 1.26
