#!/usr/bin/env python3
"""deploy/kubernetes, as far as that can be told without Kubernetes: usage: test_kubernetes.py BINARIES ROOT

kustomize renders each overlay, alone and with each component; Kubernetes' own schemas take what comes of it; what stands in two places says
the same in both; and the pod is run as its manifest says: with these arguments, as its user, without capabilities, on a root that is
read-only, and asked by its own probes."""
import atexit, base64, ctypes, fcntl, http.client, math, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time

BINARIES, ROOT = os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2])
SELF = [os.path.realpath(__file__), BINARIES, ROOT]
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1

tools = subprocess.run([f"{ROOT}/scripts/fetch-kubernetes", "--no-fetch"], stdout=subprocess.PIPE, text=True).stdout.strip()
if not tools:
    sys.exit(77)
is_root = os.geteuid() == 0
if is_root and "FMS_KAFKA" not in os.environ:
    # Brokers and pod in a network of their own, since the pod's port is fixed.
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    for name in ("FMS_TEST_MQTT", "FMS_TEST_KAFKA"):
        os.environ.pop(name, None)
    os.execv(f"{BINARIES}/fms-sandbox", ["fms-sandbox", "--", f"{tools}/bin/python", *SELF])
if os.path.realpath(sys.prefix) != os.path.realpath(tools):
    os.execv(f"{tools}/bin/python", [f"{tools}/bin/python", *SELF])

import kubernetes_validate
import yaml

FMSPIPE = f"{BINARIES}/fmspipe"
OVERLAYS = ["single", "shards", "buffered"]
COMPONENTS = ["podmonitor"]
VERSIONS = "1.27", "1.37"
EXAMPLE = "deploy/kubernetes/secret.example.yaml"
MQTT, KAFKA = "ssl://mqtt.example.com:8883", "kafka.example.com:9092"
work = tempfile.mkdtemp()
atexit.register(shutil.rmtree, work)
bad = 0


def holds(condition, what):
    global bad
    if not condition:
        print(f"FAILED: {what}")
        bad = 1


def read(name):
    with open(f"{ROOT}/{name}") as file:
        return file.read()


# --- what is rendered

def render(overlay, component=None):
    folder = f"{work}/deploy/overlays/{overlay}"
    if component:
        text = read(f"deploy/kubernetes/overlays/{overlay}/kustomization.yaml") + f"components: [../../components/{component}]\n"
        with open(f"{folder}/kustomization.yaml", "w") as file:
            file.write(text)
    result = subprocess.run([f"{tools}/bin/kustomize", "build", folder], capture_output=True, text=True)
    if result.returncode or result.stderr:
        sys.exit(f"kustomize does not take {overlay} with {component}: {result.stderr}")
    return list(yaml.safe_load_all(result.stdout))


def check_schema(name, objects):
    for thing in objects:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                holds(thing["apiVersion"] == "monitoring.coreos.com/v1", f"{name}: Kubernetes {version} has no {thing['kind']}")
            except kubernetes_validate.ValidationError as error:
                holds(False, f"{name}: {thing['kind']} in Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")


class Pod:
    """What stands in the rendered manifests, with the names by which it is asked for here."""

    def __init__(self, objects):
        self.of_kind = {thing["kind"]: thing for thing in objects}
        self.set = self.of_kind["StatefulSet"]["spec"]
        self.labels = self.set["template"]["metadata"]["labels"]
        self.spec = self.set["template"]["spec"]
        self.container = self.spec["containers"][0]
        self.arguments = self.container["args"]
        self.files = [argument for argument in self.arguments if not argument.startswith("--")]
        self.texts = self.of_kind["ConfigMap"]["data"]
        self.env = self.container.get("env", [])
        self.mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        self.volumes = {volume["name"]: volume for volume in self.spec["volumes"]}

    def option(self, name):
        return next(argument.split("=", 1)[1] for argument in self.arguments if argument.startswith(f"--{name}="))

    def options(self, name):
        """the values that this option has in the pipeline files"""
        return [value for text in self.texts.values() for value in re.findall(rf"^{name} = (.*?)\s*(?:;.*)?$", text, re.M)]


# --- what stands in two places

def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)?", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}[unit]


def size(text):
    number, unit = re.fullmatch(r"(\d+)([KMGT]i?B?)?", text).groups()
    return int(number) << {"K": 10, "M": 20, "G": 30, "T": 40, None: 0}[unit and unit[0]]


def check_stop(name, pod):
    closing = int(re.search(r"^#define CREW_PATIENCE +\((\d+) \* FMS_SECOND\)", read("core/crew.h"), re.M).group(1))
    default = re.search(r'drain_timeout, "(\w+)"', read("core/assemble.c")).group(1)
    drain = max(map(seconds, pod.options("drain_timeout") or [default]))
    holds(pod.spec["terminationGracePeriodSeconds"] > drain + closing,
          f"{name}: the pod is killed after {pod.spec['terminationGracePeriodSeconds']} s, and a stop may take {drain + closing} s")


def check_memory(name, pod):
    """what is in flight, as much again for client libraries, and the process itself"""
    shards = math.ceil(max(map(int, pod.options("shards")), default=1) / pod.set["replicas"])
    held = shards * sum(map(size, pod.options("max_in_flight_bytes")))
    holds(len(pod.options("max_in_flight_bytes")) == len(pod.texts), f"{name}: a pipeline file does not bound its memory")
    holds(size(pod.container["resources"]["limits"]["memory"]) > 2 * held + size("64M"), f"{name}: less memory than {held} in flight takes")


def check_labels(name, pod):
    selectors = [pod.set["selector"], pod.of_kind["PodDisruptionBudget"]["spec"]["selector"],
                 pod.of_kind["NetworkPolicy"]["spec"]["podSelector"], {"matchLabels": pod.of_kind["Service"]["spec"]["selector"]}]
    selectors += [term["podAffinityTerm"]["labelSelector"] for term in
                  pod.spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]]
    selectors += [constraint["labelSelector"] for constraint in pod.spec["topologySpreadConstraints"]]
    if "PodMonitor" in pod.of_kind:
        selectors.append(pod.of_kind["PodMonitor"]["spec"]["selector"])
        job = pod.labels.get(pod.of_kind["PodMonitor"]["spec"]["jobLabel"])
        holds(f'job=\\"{job}\\"' in read("deploy/prometheus/alerts.yml"), f"{name}: the alert rules know no job {job}")
    for selector in selectors:
        holds(selector == {"matchLabels": pod.labels}, f"{name}: {selector} is not what selects the bridge")
    holds(pod.set["serviceName"] == pod.of_kind["Service"]["metadata"]["name"], f"{name}: there is no Service {pod.set['serviceName']}")


def check_ports(name, pod):
    port = {port["name"]: port["containerPort"] for port in pod.container["ports"]}["metrics"]
    listens = [address for address in pod.option("admin").split(",") if not address.startswith("unix:")]
    holds(listens == [f"0.0.0.0:{port}"], f"{name}: it listens at {listens}, and its port is {port}")
    holds([item["targetPort"] for item in pod.of_kind["Service"]["spec"]["ports"]] == ["metrics"], f"{name}: the Service's port")
    policy = pod.of_kind["NetworkPolicy"]["spec"]
    holds([item["port"] for rule in policy["ingress"] for item in rule["ports"]] == ["metrics"], f"{name}: what may come in is not metrics")
    leaves = {item["port"] for rule in policy["egress"] for item in rule["ports"]}
    asked = {int(address.rsplit(":", 1)[1]) for address in pod.options("server") + pod.options("brokers")}
    holds(leaves == asked | {53}, f"{name}: the brokers are at {asked}, and NetworkPolicy lets out to {leaves}")
    if "PodMonitor" in pod.of_kind:
        holds([item["port"] for item in pod.of_kind["PodMonitor"]["spec"]["podMetricsEndpoints"]] == ["metrics"], f"{name}: PodMonitor")


def check_secrets(name, pod):
    example = yaml.safe_load(read(EXAMPLE))
    there = set(example["stringData"])
    holds(pod.volumes["secrets"]["secret"]["secretName"] == example["metadata"]["name"], f"{name}: the Secret has another name")
    folder = pod.mounts["secrets"]
    wanted = {pod.option("admin-password-file")} | set(re.findall(r"\$\{file:([^}]*)\}", "".join(pod.texts.values())))
    if "PodMonitor" in pod.of_kind:
        for end in pod.of_kind["PodMonitor"]["spec"]["podMetricsEndpoints"]:
            wanted |= {f"{folder}/{reference['key']}" for reference in end["basicAuth"].values()}
    for path in wanted:
        holds(os.path.dirname(path) == folder and os.path.basename(path) in there, f"{name}: no Secret has {path}")
    return {os.path.basename(path) for path in wanted}


def check_unprivileged(name, pod):
    """what Pod Security calls restricted, and more"""
    user = int(re.search(r"^USER (\d+):\1$", read("deploy/Dockerfile"), re.M).group(1))
    context, own = pod.spec["securityContext"], pod.container["securityContext"]
    holds(context["runAsNonRoot"] and {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {user}, f"{name}: its user")
    holds(context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: seccomp")
    holds(own == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, f"{name}: rights")
    holds(pod.spec["automountServiceAccountToken"] is False, f"{name}: it has a token")
    holds(not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod.spec), f"{name}: the node's namespaces")
    holds(len(pod.spec["containers"]) == 1, f"{name}: more than one container")
    holds(all(set(volume) <= {"name", "configMap", "secret", "emptyDir"} for volume in pod.spec["volumes"]), f"{name}: its volumes")


def check_files(name, pod):
    """the ConfigMap is a folder, seen under one name, with the files that are run"""
    holds(all("subPath" not in mount for mount in pod.container["volumeMounts"]), f"{name}: a change does not reach a subPath")
    holds(pod.volumes["pipeline"]["configMap"]["name"] == "bridge" == pod.of_kind["ConfigMap"]["metadata"]["name"],
          f"{name}: the ConfigMap's name changes with its contents")
    holds(sorted(pod.files) == sorted(f"{pod.mounts['pipeline']}/{file}" for file in pod.texts), f"{name}: {pod.files} are not what it has")
    holds(len(pod.options("client_id")) == 1, f"{name}: client ids")
    if "state" in pod.mounts:
        holds(re.search(rf" {pod.mounts['state']}$", read("deploy/Dockerfile"), re.M), f"{name}: the image has no {pod.mounts['state']}")
        claim = size(pod.set["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"])
        letters = size(pod.options("rotate_size")[0]) * (1 + int(pod.options("rotate_keep")[0]))
        holds(claim > 2 * max(map(size, pod.options("max_size"))) + letters, f"{name}: the volume is too small")
        holds(all(path.startswith(pod.mounts["state"] + "/") for path in pod.options("path")), f"{name}: it writes elsewhere")
    else:
        holds(not pod.options("path"), f"{name}: it writes somewhere")


def check_replicas(name, pod):
    told = {item["name"]: item.get("value") for item in pod.env}
    holds(told in ({}, {"REPLICA": None, "REPLICAS": str(pod.set["replicas"]), "PLANNED": "0"}),
          f"{name}: {pod.set['replicas']} pods are told {told}")
    holds("command" not in pod.container, f"{name}: the image's own command is not run")
    holds(bool(told) == bool(pod.options("shards")), f"{name}: shards and no replicas, or the other way round")
    holds(told or pod.set["replicas"] == 1, f"{name}: two bridges without shards deliver all of it twice")
    version = subprocess.run([FMSPIPE, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[1]
    holds(pod.container["image"].endswith(f"/fmspipe:{version}"), f"{name}: the image is not that of version {version}")


# --- the pod as a process

# Folders are laid over these, for the machine does not have what is mounted in them.
MOUNTS = """
set -e
mount --make-rprivate /
mkdir -p "$0/over"
mount -t tmpfs tmpfs "$0/over"
for folder in etc run var/lib; do
  over=$0/over/$folder
  mkdir -p "$over/upper" "$over/work"
  mount -t overlay -o "lowerdir=/$folder,upperdir=$over/upper,workdir=$over/work" overlay "/$folder"
done
while read -r volume path; do
  mkdir -p "$path"
  mount --bind "$0/$volume" "$path"
done <"$0/mounts"
for folder in / /etc /run /var/lib; do mount -o remount,ro,bind "$folder"; done
exec "$@"
"""


class Running:
    """The container of a pod: in a mount namespace of its own, read-only but for the volumes of the manifest."""

    def __init__(self, name, pod, number):
        self.folder = f"{work}/{name}"
        self.user = pod.spec["securityContext"]["runAsUser"]
        self.group = pod.spec["securityContext"]["fsGroup"]
        os.mkdir(self.folder, 0o755)
        for volume in pod.mounts:
            os.mkdir(f"{self.folder}/{volume}")
            os.chown(f"{self.folder}/{volume}", 0, self.group)
            os.chmod(f"{self.folder}/{volume}", 0o2775)
        with open(f"{self.folder}/mounts", "w") as file:
            file.writelines(f"{volume} {path}\n" for volume, path in pod.mounts.items())
        self.lay("pipeline", pod.texts, 0o644)
        secrets = yaml.safe_load(read(EXAMPLE))["stringData"]
        self.lay("secrets", {key: f"the {key}" for key in secrets}, pod.volumes["secrets"]["secret"]["defaultMode"])
        self.environment = {key: value for key, value in os.environ.items() if key.startswith("FMSPIPE_") or key.endswith("SAN_OPTIONS")}
        self.environment |= {"PATH": f"{BINARIES}:{os.environ['PATH']}"}
        for item in pod.env:
            field = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            holds(field in (None, "metadata.name"), f"{name}: {item['name']} comes from {field}")
            self.environment[item["name"]] = f"bridge-{number}" if field else item["value"]

    def lay(self, volume, texts, mode):
        """as the kubelet does: the files are links through ..data, a link that is replaced in one step"""
        folder = tempfile.mkdtemp(prefix="..", dir=f"{self.folder}/{volume}")
        os.chmod(folder, 0o755)
        for name, text in texts.items():
            with open(f"{folder}/{name}", "w") as out:
                out.write(text)
            os.chmod(f"{folder}/{name}", mode)
            os.chown(f"{folder}/{name}", 0, self.group)
        data = f"{self.folder}/{volume}/..data"
        old = os.path.realpath(data)
        os.symlink(os.path.basename(folder), f"{data}_tmp")
        os.rename(f"{data}_tmp", data)
        for name in texts:
            if not os.path.lexists(f"{self.folder}/{volume}/{name}"):
                os.symlink(f"..data/{name}", f"{self.folder}/{volume}/{name}")
        if old != data:
            shutil.rmtree(old)

    def as_user(self, command):
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", f"--groups={self.group}", "--no-new-privs",
                "--bounding-set=-all", "--", *command]

    def start(self, command):
        with open(f"{self.folder}/log", "w") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", MOUNTS, self.folder, *self.as_user(command)],
                                            env=self.environment, stdout=log, stderr=log)
        atexit.register(self.process.kill)
        return self.process

    def log(self):
        with open(f"{self.folder}/log") as file:
            return file.read()

    def run(self, command):
        """as a probe, or `kubectl exec`"""
        result = subprocess.run(["nsenter", f"--target={self.process.pid}", "--mount", *self.as_user(command)], env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said = result.stdout
        return result.returncode == 0

    def until(self, condition, what):
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                sys.exit(f"FAILED: {what}\n{self.said}{self.log()}")
            time.sleep(0.05)


def ask(port, path, password=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()} if password else {}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


def confirmed(port):
    """how many messages Kafka has confirmed, by the process's own word"""
    counts = re.findall(r'^fmspipe_sink_settled_total\{.*stage="sink kafka".*fate="delivered".*\} (\d+)$',
                        ask(port, "/metrics", "the admin-password")[1], re.M)
    return sum(map(int, counts))


def publish(topic):
    return subprocess.run(["mosquitto_pub", "-p", os.environ["FMS_MQTT"].rsplit(":", 1)[1], "-q", "1", "-t", topic,
                           "-m", '{"vehicle_id":"raspi-001"}'], check=True)


def check_pod(name, pod):
    running = Running(name, pod, 0)
    checked = running.start(["fmspipe", "check", *pod.files]).wait(timeout=60)
    holds(checked == 0 and " warn" not in running.log(), f"{name}: fmspipe check says\n{running.log()}")
    texts = {file: text.replace(MQTT, os.environ["FMS_MQTT"]).replace(KAFKA, os.environ["FMS_KAFKA"]) for file, text in pod.texts.items()}
    running.lay("pipeline", texts, 0o644)
    running.start(["fmspipe", *pod.arguments])  # the image's ENTRYPOINT
    for kind in ("startup", "liveness", "readiness"):
        probe = pod.container[f"{kind}Probe"]["exec"]["command"]
        running.until(lambda: running.run(probe), f"{name}: the {kind} probe does not say yes")
    holds(not running.run(["touch", "/tmp/x"]), f"{name}: it can write outside of its volumes")

    port = pod.container["ports"][0]["containerPort"]
    holds(ask(port, "/metrics")[0] == 401, f"{name}: /metrics asks for no password")
    topic = pod.options("topic")[0].replace("${shard}", "0").replace("+", "raspi-001")
    publish(topic)
    running.until(lambda: confirmed(port) == 1, f"{name}: Kafka has not confirmed one message")
    if "--watch" in pod.arguments:
        running.lay("pipeline", {file: text.replace("/data", "/other") for file, text in texts.items()}, 0o644)
        other = topic.replace("/data", "/other")  # until it is subscribed to, a message there goes nowhere
        running.until(lambda: publish(other) and confirmed(port) > 1, f"{name}: a change of the ConfigMap changes nothing")
        holds(running.process.poll() is None, f"{name}: a change of the ConfigMap ends it")

    running.process.send_signal(signal.SIGTERM)
    holds(running.process.wait(timeout=60) == 0, f"{name}: a stop leaves something\n{running.log()}")


# --- all of it

def check_prometheus():
    """The job for those without the operator. Debian's promtool knows no Kubernetes, so it looks at the rest of it."""
    config = yaml.safe_load(read("deploy/kubernetes/prometheus.yml"))
    for job in config["scrape_configs"]:
        holds(job["relabel_configs"][0]["regex"] == "metrics", "prometheus.yml: the port")
        found = job.pop("kubernetes_sd_configs")[0]
        holds(found["namespaces"]["names"] == [yaml.safe_load(read("deploy/kubernetes/namespace.yaml"))["metadata"]["name"]],
              "prometheus.yml: the namespace")
    with open(f"{work}/prometheus.yml", "w") as file:
        yaml.safe_dump(config, file)
    result = subprocess.run(["promtool", "check", "config", "--syntax-only", f"{work}/prometheus.yml"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    holds(result.returncode == 0, f"prometheus.yml: {result.stdout}")


def check_commands():
    """what the READMEs and the files tell to apply is there"""
    for name in ("README.md", "overlays/single/kustomization.yaml", "overlays/shards/kustomization.yaml", "overlays/buffered/kustomization.yaml"):
        for path in re.findall(r"kubectl (?:apply|delete) -[fk] (deploy/[^\s`]+)", read(f"deploy/kubernetes/{name}")):
            holds(os.path.exists(f"{ROOT}/{path}"), f"{name}: there is no {path}")
    for overlay in OVERLAYS:
        for component in re.findall(r"\.\./\.\./components/(\w+)", read(f"deploy/kubernetes/overlays/{overlay}/kustomization.yaml")):
            holds(component in COMPONENTS, f"{overlay}: there is no component {component}")


shutil.copytree(f"{ROOT}/deploy/kubernetes", f"{work}/deploy")
os.chmod(work, 0o755)
secrets = set()
for overlay in OVERLAYS:
    for component in [None, *COMPONENTS]:
        name = f"{overlay}-{component}" if component else overlay
        objects = render(overlay, component)
        check_schema(name, objects)
        pod = Pod(objects)
        for check in (check_stop, check_memory, check_labels, check_ports, check_unprivileged, check_files, check_replicas):
            check(name, pod)
        secrets |= check_secrets(name, pod)
        if is_root and component is None and not bad:
            check_pod(name, pod)
holds(secrets == set(yaml.safe_load(read(EXAMPLE))["stringData"]), f"of the Secret only {secrets} are asked for")
check_prometheus()
check_commands()
if not is_root:
    print("the pod was not run: only root gives it a root of its own")
sys.exit(bad)
