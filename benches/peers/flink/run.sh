#!/usr/bin/env bash
# Builds once, then runs the job, or the check:
#   run.sh --job counts|journeys|all --variant datastream|sql|sqlcascade|reinterpret --guarantee at_least_once|exactly_once --commit-ms N
#          --parallelism N --state hashmap|rocksdb --brokers H:P --topic T --avsc PATH [--conf k=v,k=v] [--idle-s N] [--ckpt-dir DIR]
#   run.sh check JOB BROKERS EXPECT_DIR
# JVM: $FLINK_JVM replaces the default heap and collector; the rest are the module flags that Flink's own config.yaml lists for Java 17.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [[ ! -e $here/target/peers-flink.jar || -n $(find "$here/src" "$here/pom.xml" -newer "$here/target/peers-flink.jar" -print -quit) ]]; then
  (cd "$here" && mvn -q -B package >&2)
fi
jvm=${FLINK_JVM:--Xmx3g -Xms3g -XX:+UseParallelGC}
open=(--add-exports=java.base/sun.net.util=ALL-UNNAMED --add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED --add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED)
for p in lang net io nio lang.reflect text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do open+=(--add-opens=java.base/java.$p=ALL-UNNAMED); done
open+=(--add-opens=java.base/sun.nio.ch=ALL-UNNAMED)
log=(-Dorg.slf4j.simpleLogger.defaultLogLevel=${FLINK_LOG:-error} -Dorg.slf4j.simpleLogger.log.org.apache.flink.runtime.checkpoint.CheckpointCoordinator=info)
cp="$here/target/peers-flink.jar:$here/target/lib/*"
if [[ ${1:-} == check ]]; then shift; exec java -Xmx1g -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$cp" peers.Check "$@"; fi
exec "${JAVA:-java}" $jvm "${open[@]}" "${log[@]}" -cp "$cp" peers.Main --avsc "$here/../../../src/codec/schemas/touchpoint.canonical.v1.avsc" "$@"
