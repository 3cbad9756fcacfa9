// Shares of one run as tasks of any cluster that Nextflow knows, then the files:
//
//   nextflow run examples/nextflow/main.nf --config $PWD/scene.yaml --shares 8
//
// Results appear in the config's output.directory; give absolute paths in it, as tasks run in folders of their own.
params.shares = 8

process SHARD {
    cpus 1
    memory '5 GB'
    errorStrategy 'retry'
    maxRetries 2

    input:
    val number

    output:
    val number

    script:
    "inpaint-pipeline shard ${number}/${params.shares} '${params.config}' --set compute.executor=serial --quiet"
}

process ASSEMBLE {
    cpus 1
    memory '5 GB'

    input:
    val all

    script:
    "inpaint-pipeline assemble '${params.config}' --quiet"
}

workflow {
    SHARD(channel.of(1..params.shares)).collect() | ASSEMBLE
}
