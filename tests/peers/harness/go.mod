module restante.invalid/harness

go 1.26

require github.com/ethereum/go-ethereum v1.9.5
