import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The four stages in Kafka Streams; the ledger is a state store, its topic the store's changelog.
 *
 * Options: store=memory|rocksdb, commit=ms, threads=n, linger=ms, session=ms, static=1.
 */
public class KafkaStreamsEngine {
  static final int STAGES = 4;
  static final ObjectMapper JSON = new ObjectMapper();

  /** Parses the event, changes a field, keeps the ledger, sends the event on. */
  static class Stage implements Processor<byte[], byte[], byte[], byte[]> {
    final int number;
    final String sink;
    ProcessorContext<byte[], byte[]> context;
    KeyValueStore<byte[], byte[]> ledger;

    Stage(int number) {
      this.number = number;
      sink = "sink" + (number + 1);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
      context = given;
      ledger = given.getStateStore("ledger");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        ObjectNode event = (ObjectNode) JSON.readTree(record.value());
        event.put("id", UUID.randomUUID().toString());
        event.put("source", "/bench/stage/" + number);
        event.put("type", "org.bench.doc.stage.done");
        ((ObjectNode) event.get("data")).put("stage", number + 1);
        ledger.put(record.key(), JSON.writeValueAsBytes(next(event, ledger.get(record.key()))));
        context.forward(record.withValue(JSON.writeValueAsBytes(event)), sink);
      } catch (java.io.IOException error) {
        throw new java.io.UncheckedIOException(error);
      }
    }

    ObjectNode next(ObjectNode event, byte[] before) throws java.io.IOException {
      int attempts = 1;
      int hops = 1;
      if (before != null) {
        JsonNode row = JSON.readTree(before);
        hops = row.get("hops").asInt() + 1;
        if (row.get("stage").asInt() == number + 1) attempts = row.get("attempts").asInt() + 1;
      }
      ObjectNode row = JSON.createObjectNode();
      row.put("doc", event.get("subject").asText());
      row.put("stage", number + 1);
      row.put("attempts", attempts);
      row.put("status", number == STAGES - 1 ? "done" : "running");
      row.put("hops", hops);
      return row;
    }
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, String> env = System.getenv();
    Map<String, String> options = new HashMap<>();
    for (String option : env.getOrDefault("BENCH_OPTIONS", "").split(","))
      if (option.contains("=")) options.put(option.split("=")[0], option.split("=")[1]);
    KafkaStreams streams = new KafkaStreams(topology(env, options), settings(env, options));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
    streams.start();
    new CountDownLatch(1).await();
  }

  static Properties settings(Map<String, String> env, Map<String, String> options) {
    Properties settings = new Properties();
    settings.put("application.id", env.get("BENCH_RUN"));
    settings.put("bootstrap.servers", env.get("BENCH_BOOTSTRAP"));
    settings.put("state.dir", env.get("BENCH_FOLDER"));
    settings.put("num.stream.threads", options.getOrDefault("threads", "1"));
    settings.put("processing.guarantee",
        "eos".equals(env.get("BENCH_MODE")) ? "exactly_once_v2" : "at_least_once");
    if (options.containsKey("commit")) settings.put("commit.interval.ms", options.get("commit"));
    if (options.containsKey("session")) {
      int session = Integer.parseInt(options.get("session"));
      settings.put("session.timeout.ms", session);
      settings.put("heartbeat.interval.ms", Math.min(3000, session / 3));
    }
    if (options.containsKey("static"))
      settings.put("group.instance.id", "w" + env.get("BENCH_WORKER"));
    settings.put("auto.offset.reset", "earliest");
    settings.put("statestore.cache.max.bytes", "0");
    settings.put("producer.linger.ms", options.getOrDefault("linger", "5"));
    settings.put("replication.factor", "1");
    return settings;
  }

  static Topology topology(Map<String, String> env, Map<String, String> options) {
    Topology topology = new Topology();
    var bytes = Serdes.ByteArray();
    String[] stages = new String[STAGES];
    for (int n = 0; n < STAGES; n++) {
      int number = n;
      stages[n] = "stage" + n;
      topology.addSource("source" + n, bytes.deserializer(), bytes.deserializer(),
          env.get("BENCH_RUN") + "-s" + n);
      topology.addProcessor(stages[n], () -> new Stage(number), "source" + n);
    }
    var supplier = "rocksdb".equals(options.get("store"))
        ? Stores.persistentKeyValueStore("ledger")
        : Stores.inMemoryKeyValueStore("ledger");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(supplier, bytes, bytes).withCachingDisabled(), stages);
    for (int n = 1; n <= STAGES; n++)
      topology.addSink("sink" + n, env.get("BENCH_RUN") + "-s" + n, bytes.serializer(),
          bytes.serializer(), "stage" + (n - 1));
    return topology;
  }
}
