package peers;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.bridge.java.StreamStatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;

public final class Main {
    static final Map<String, String> A = new HashMap<>();

    static String arg(String k, String d) { return A.getOrDefault(k, d); }

    public static void main(String[] args) throws Exception {
        long begun = System.nanoTime(), jvmStart = java.lang.management.ManagementFactory.getRuntimeMXBean().getStartTime(), jvmBefore = System.currentTimeMillis() - jvmStart;
        for (int i = 0; i + 1 < args.length; i += 2) A.put(args[i].substring(2), args[i + 1]);
        Metrics.watchHeap();
        String job = arg("job", "counts"), variant = arg("variant", "datastream"), brokers = arg("brokers", "127.0.0.1:19092"), topic = arg("topic", "peers.input"),
            avscPath = arg("avsc", "../../../src/codec/schemas/touchpoint.canonical.v1.avsc"), state = arg("state", "hashmap"), engine = arg("engine", "flink");
        boolean eos = arg("guarantee", "at_least_once").equals("exactly_once");
        long commit = Long.parseLong(arg("commit-ms", "1000"));
        int par = Integer.parseInt(arg("parallelism", "1"));
        boolean counts = !job.equals("journeys"), journeys = !job.equals("counts"), sql = variant.startsWith("sql");
        if (sql && journeys) throw new IllegalArgumentException("sql does counts only");
        List<String> outs = new java.util.ArrayList<>();
        if (counts) outs.add("peers.counts." + engine);
        if (journeys) { outs.add("peers.sessions." + engine); outs.add("peers.abandoned." + engine); }
        recreate(brokers, outs, Integer.parseInt(arg("out-partitions", "4")));

        Configuration c = new Configuration();
        Map<String, String> conf = new java.util.TreeMap<>();
        conf.put("execution.runtime-mode", "STREAMING");
        conf.put("pipeline.object-reuse", "true");
        conf.put("pipeline.generic-types", "false");
        conf.put("parallelism.default", "" + par);
        conf.put("taskmanager.numberOfTaskSlots", "" + par);
        conf.put("taskmanager.memory.managed.size", arg("managed", sql ? "128m" : state.equals("rocksdb") ? "512m" : "16m"));
        conf.put("taskmanager.memory.network.min", "64m");
        conf.put("taskmanager.memory.network.max", "64m");
        conf.put("restart-strategy.type", "none");
        conf.put("state.backend.type", state);
        conf.put("execution.checkpointing.interval", commit + " ms");
        conf.put("execution.checkpointing.mode", eos ? "EXACTLY_ONCE" : "AT_LEAST_ONCE");
        conf.put("execution.checkpointing.timeout", "10 min");
        conf.put("execution.checkpointing.incremental", "true");
        conf.put("execution.checkpointing.unaligned.enabled", eos ? arg("unaligned", "false") : "false");
        conf.put("execution.checkpointing.storage", "filesystem");
        conf.put("execution.checkpointing.dir", "file://" + Files.createTempDirectory(Path.of(arg("ckpt-dir", "/tmp")), "flink-ckpt"));
        conf.put("state.backend.rocksdb.localdir", Files.createTempDirectory(Path.of(arg("ckpt-dir", "/tmp")), "flink-rocks").toString());
        conf.put("pipeline.auto-watermark-interval", arg("wm-ms", "200") + " ms");
        for (String kv : arg("conf", "").split(",")) if (kv.contains("=")) conf.put(kv.substring(0, kv.indexOf('=')), kv.substring(kv.indexOf('=') + 1));
        conf.forEach(c::setString);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(par, c);

        Properties pp = new Properties();
        pp.put("linger.ms", "20"); pp.put("batch.size", "262144"); pp.put("compression.type", "lz4"); pp.put("acks", "all");
        if (eos) pp.put("transaction.timeout.ms", "900000");
        Properties cp = new Properties();
        cp.put("fetch.max.bytes", "52428800"); cp.put("max.partition.fetch.bytes", arg("fetch", "1048576")); cp.put("max.poll.records", arg("poll", "5000")); cp.put("receive.buffer.bytes", "1048576");
        cp.put("fetch.min.bytes", arg("fetch-min", "1")); cp.put("isolation.level", "read_committed"); cp.put("enable.auto.commit", "false"); cp.put("check.crcs", arg("crc", "false"));

        String plan = "";
        if (sql) {
            StreamTableEnvironment t = StreamTableEnvironment.create(env);
            Map.of("table.exec.mini-batch.enabled", "true", "table.exec.mini-batch.allow-latency", "1 s", "table.exec.mini-batch.size", "5000",
                "table.optimizer.agg-phase-strategy", arg("agg", "TWO_PHASE"), "table.exec.source.idle-timeout", arg("idle-s", "5") + " s", "table.local-time-zone", "UTC").forEach(t.getConfig()::set);
            StringBuilder props = new StringBuilder();
            cp.forEach((k, v) -> props.append(",'properties.").append(k).append("'='").append(v).append("'"));
            t.executeSql("CREATE TABLE input (channel STRING, stage STRING, event_time TIMESTAMP(3), `value` BIGINT, WATERMARK FOR event_time AS event_time - INTERVAL '30' SECOND) WITH ('connector'='kafka','topic'='" + topic
                + "','properties.bootstrap.servers'='" + brokers + "','properties.group.id'='peers-flink','scan.startup.mode'='earliest-offset','scan.bounded.mode'='latest-offset','format'='touchpoint','touchpoint.avsc'='" + avscPath + "'" + props + ")");
            props.setLength(0);
            pp.forEach((k, v) -> props.append(",'properties.").append(k).append("'='").append(v).append("'"));
            t.executeSql("CREATE TABLE counts (w STRING, `start` BIGINT, `end` BIGINT, channel STRING, stage STRING, `count` BIGINT, `sum` BIGINT) WITH ('connector'='kafka','topic'='" + outs.get(0)
                + "','properties.bootstrap.servers'='" + brokers + "','format'='json','key.format'='json','key.fields'='channel;stage','sink.delivery-guarantee'='" + (eos ? "exactly-once','sink.transactional-id-prefix'='pf-" + Long.toHexString(System.nanoTime()) + "','sink.transaction-naming-strategy'='" + arg("naming", "POOLING") : "at-least-once") + "'" + props + ")");
            String ms = "TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', %s) * CAST(1000 AS BIGINT)";
            String sel = "SELECT '%s', " + String.format(ms, "window_start") + ", " + String.format(ms, "window_end") + ", channel, stage, COUNT(*), COALESCE(SUM(`value`), 0) FROM TABLE(%s) GROUP BY channel, stage, window_start, window_end";
            String q = "INSERT INTO counts " + String.format(sel, "tumble", "TUMBLE(TABLE input, DESCRIPTOR(event_time), INTERVAL '1' MINUTE)") + " UNION ALL "
                + String.format(sel, "hop", "HOP(TABLE input, DESCRIPTOR(event_time), INTERVAL '10' SECOND, INTERVAL '10' MINUTE)");
            if (variant.equals("sqlcascade")) {
                // Cascading window aggregation: one local aggregation into 10 s slices for both windows.
                t.executeSql("CREATE TEMPORARY VIEW slices AS SELECT channel, stage, window_time AS slice_time, COUNT(*) AS c, COALESCE(SUM(`value`), 0) AS s FROM TABLE(TUMBLE(TABLE input, DESCRIPTOR(event_time), INTERVAL '10' SECOND)) GROUP BY channel, stage, window_start, window_end, window_time");
                String sc = sel.replace("COUNT(*), COALESCE(SUM(`value`), 0)", "SUM(c), SUM(s)");
                q = "INSERT INTO counts " + String.format(sc, "tumble", "TUMBLE(TABLE slices, DESCRIPTOR(slice_time), INTERVAL '1' MINUTE)") + " UNION ALL "
                    + String.format(sc, "hop", "HOP(TABLE slices, DESCRIPTOR(slice_time), INTERVAL '10' SECOND, INTERVAL '10' MINUTE)");
            }
            StreamStatementSet set = t.createStatementSet();
            set.addInsertSql(q);
            if (A.containsKey("explain")) System.out.println(set.explain());
            set.execute().await();
        } else {
            Decoder dec = new Decoder(Files.readString(Path.of(avscPath)), counts, journeys);
            KafkaSource<Ev> src = KafkaSource.<Ev>builder().setBootstrapServers(brokers).setTopics(topic).setGroupId("peers-flink").setProperties(cp)
                .setStartingOffsets(OffsetsInitializer.earliest()).setBounded(OffsetsInitializer.latest()).setDeserializer(dec).build();
            WatermarkStrategy<Ev> wm = WatermarkStrategy.<Ev>forBoundedOutOfOrderness(Duration.ofSeconds(30)).withTimestampAssigner((e, ts) -> e.time);
            if (!arg("idle-s", "5").equals("0")) wm = wm.withIdleness(Duration.ofSeconds(Long.parseLong(arg("idle-s", "5"))));
            DataStream<Ev> in = env.fromSource(src, wm, "touchpoints").uid("touchpoints");
            if (counts && !variant.equals("nopreagg")) {
                KeyedStream<Types2.Slice, String> k = in.transform("slices", new Types2.Info<>(Types2.Slice.class, Types2.SliceSer.I), new LocalAgg()).uid("slices")
                    .keyBy(s -> s.channel + "|" + s.stage, Types.STRING);
                k.process(new WindowFn()).returns(Out.class).uid("windows").sinkTo(sink(brokers, outs.get(0), eos, pp)).uid("counts-sink");
            }
            if (journeys) {
                DataStream<Types2.JEv> j = in.map(new ToJEv()).returns(new Types2.Info<>(Types2.JEv.class, Types2.JEvSer.I)).uid("to-journey");
                KeyedStream<Types2.JEv, String> k = variant.equals("reinterpret") && par == 1
                    ? DataStreamUtils.reinterpretAsKeyedStream(j, e -> e.customer, Types.STRING) : j.keyBy(e -> e.customer, Types.STRING);
                SingleOutputStreamOperator<Out> s = k.process(new JourneyFn()).returns(Out.class).uid("journeys");
                s.sinkTo(sink(brokers, "peers.sessions." + engine, eos, pp)).uid("sessions-sink");
                s.getSideOutput(JourneyFn.ABANDONED).sinkTo(sink(brokers, "peers.abandoned." + engine, eos, pp)).uid("abandoned-sink");
            }
            env.execute("peers-" + job);
        }
        long end = System.nanoTime(), cpu = Metrics.cpu(), first = Metrics.firstNanos.get(), ev = Metrics.events();
        double wall = (end - first) / 1e9, read = (Metrics.lastNanos.get() - first) / 1e9, cpuS = (cpu - Metrics.firstCpu.get()) / 1e9;
        double[] warm = Metrics.warm();
        long hwm = 0;
        for (String l : Files.readAllLines(Path.of("/proc/self/status"))) if (l.startsWith("VmHWM")) hwm = Long.parseLong(l.replaceAll("\\D", ""));
        long gc = java.lang.management.ManagementFactory.getGarbageCollectorMXBeans().stream().mapToLong(java.lang.management.GarbageCollectorMXBean::getCollectionTime).sum();
        System.out.printf(java.util.Locale.ROOT, "{\"engine\":\"flink\",\"job\":\"%s\",\"variant\":\"%s\",\"guarantee\":\"%s\",\"commit_ms\":%d,\"parallelism\":%d,\"state\":\"%s\",\"events\":%d,\"wall_s\":%.3f,\"wall_read_s\":%.3f,\"startup_s\":%.3f,\"cpu_s\":%.3f,\"cpu_total_s\":%.3f,\"ev_per_s\":%.0f,\"ev_per_s_read\":%.0f,\"ev_per_cpu_s\":%.0f,\"ev_per_cpu_s_2nd_half\":%.0f,\"ev_per_s_2nd_half\":%.0f,\"peak_rss_mib\":%d,\"max_heap_mib\":%d,\"gc_ms\":%d,\"outputs\":%d,\"late\":%d,\"preagg\":%d}%n",
            job, variant, eos ? "exactly_once" : "at_least_once", commit, par, state, ev, wall, read, jvmBefore / 1e3 + (first - begun) / 1e9, cpuS, cpu / 1e9, ev / wall, ev / read, ev / cpuS, warm[0], warm[1], hwm / 1024, Metrics.maxHeap >> 20, gc, Metrics.out.get(), Metrics.late.get(), Metrics.preagg.get());
        System.exit(0);
    }

    static final class ToJEv implements MapFunction<Ev, Types2.JEv> {
        private transient Types2.JEv o;
        @Override public Types2.JEv map(Ev e) {
            Types2.JEv o = this.o;
            if (o == null) o = this.o = new Types2.JEv();
            o.customer = e.customer; o.time = e.time; o.kind = e.kind;
            return o;
        }
    }

    static final class KeyBytes implements SerializationSchema<Out> {
        @Override public byte[] serialize(Out o) { return o.key.getBytes(StandardCharsets.UTF_8); }
    }

    static final class ValueBytes implements SerializationSchema<Out> {
        @Override public byte[] serialize(Out o) { Metrics.out.incrementAndGet(); return o.value.getBytes(StandardCharsets.UTF_8); }
    }

    static KafkaSink<Out> sink(String brokers, String topic, boolean eos, Properties pp) {
        var b = KafkaSink.<Out>builder().setBootstrapServers(brokers).setKafkaProducerConfig(pp)
            .setRecordSerializer(KafkaRecordSerializationSchema.<Out>builder().setTopic(topic)
                .setKeySerializationSchema(new KeyBytes())
                .setValueSerializationSchema(new ValueBytes()).build())
            .setDeliveryGuarantee(eos ? DeliveryGuarantee.EXACTLY_ONCE : DeliveryGuarantee.AT_LEAST_ONCE);
        if (eos) b.setTransactionalIdPrefix("pf-" + topic.substring(6) + "-" + Long.toHexString(System.nanoTime())).setTransactionNamingStrategy(TransactionNamingStrategy.valueOf(arg("naming", "POOLING")));
        return b.build();
    }

    /** Fresh output topics. */
    static void recreate(String brokers, List<String> names, int partitions) throws Exception {
        try (Admin a = Admin.create(Map.<String, Object>of("bootstrap.servers", brokers))) {
            var have = a.listTopics().names().get();
            List<String> old = names.stream().filter(have::contains).toList();
            if (!old.isEmpty()) a.deleteTopics(old).all().get();
            for (int i = 0; ; i++) {
                try {
                    a.createTopics(names.stream().map(n -> new NewTopic(n, partitions, (short) 1).configs(Map.of("retention.ms", "-1"))).toList()).all().get();
                    return;
                } catch (java.util.concurrent.ExecutionException e) {
                    if (i == 100 || !(e.getCause() instanceof org.apache.kafka.common.errors.TopicExistsException)) throw e;
                    Thread.sleep(100);
                    have = a.listTopics().names().get();
                    names = names.stream().filter(n -> true).toList();
                }
            }
        }
    }
}
