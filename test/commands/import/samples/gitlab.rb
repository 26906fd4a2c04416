## GitLab configuration settings
##! https://docs.gitlab.com/omnibus/settings/configuration.html
external_url 'https://gitlab.example.com'

# Avoid running unnecessary services on the Gitaly server
postgresql['enable'] = false
roles ['application_role', 'gitaly_role']

gitlab_rails['ldap_servers'] = YAML.load <<-'EOS'
  main: # 'main' is the GitLab 'provider ID' of this LDAP server
    label: 'LDAP'
    password: 'it's TOP-SECRET'
EOS

# gitaly['configuration'] = { tls_listen_addr: '192.0.2.1:1' }
gitaly['enable'] = true
gitaly['auth_token'] = 'TOP-SECRET'
gitaly['configuration'] = {
   # Make Gitaly accept connections on all network interfaces. You must use
   # firewalls to restrict access to this address/port.
   # Comment out following line if you only want to support TLS connections
   listen_addr: '10.1.2.3:8075',
   prometheus_listen_addr: ':9236',
   'tls_listen_addr' => "0.0.0.0:9999",
   auth: {
      # Authentication token to ensure only authorized servers can communicate with Gitaly server
      token: ENV.fetch('GITALY_TOKEN', 'TOP-SECRET'),
   },
   :tls => {
      certificate_path: '/etc/gitlab/ssl/gitaly.pem',
      key_path: "#{ssl_directory}/TOP-SECRET.pem",
   },
   storage: [
     {
       name: 'default',
       path: '/var/opt/gitlab/git-data/repositories',
     },
   ],
   logging: { level: 'fatal' }
}

# Sharded: https://docs.gitlab.com/administration/gitaly/configure_gitaly/
gitlab_rails['repositories_storages'] = {
  'default'  => { 'gitaly_address' => 'tls://gitaly-a.internal:9999' },
  'storage1' => { 'gitaly_address' => 'tls://gitaly-a.internal:9999', 'gitaly_token' => 'TOP-SECRET' },
  "it's"     => { 'gitaly_address' => 'dns:///gitaly-b.internal:8075' },
}

if File.exist?('/etc/gitlab/TOP-SECRET')
  praefect['configuration'] = { listen_addr: '0.0.0.0:2305' }
end
